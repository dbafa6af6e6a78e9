"""A reward that any executor of Python scores, for workers on one machine or on many."""

import contextlib
import math
import multiprocessing
import os
import pickle
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from typing_extensions import override

from graft.core import limits
from graft.errors import GraftError
from graft.io.fingerprint import fingerprint
from graft.reward.base import BatchReward, Scores, format_error, leaves
from graft.reward.function import Called, Scorer, import_callable, scorer
from graft.reward.remote import Unanswered, ignore_interrupts, read_answer, score_chunk
from graft.reward.wrapped import WrappedReward

GRACE = 60.0
"""Seconds beyond the time limit of a chunk after which its answer, or any answer of a cluster, is missing."""
PATIENCE = 30.0
"""Seconds without a worker after which a message says that the run waits for one."""
MOST_BREAKS = 20
"""Number of times in a row that an executor may break without one answer."""


class DistributedReward(WrappedReward, BatchReward):
    """A reward that the workers of an executor score, chunk by chunk.

    The executor is any `concurrent.futures.Executor`: a pool of processes, or the workers of a cluster (Dask, MPI,
    Ray). The reward and the objects are pickled to the workers, which need the same packages. Workers answer with
    numbers and texts only.

    A worker that dies, a chunk that is cancelled and a chunk beyond its time limit cost their objects alone. These are
    tried again one by one, and fail with the reason if they are lost again. An executor that breaks as a whole is
    opened again; the chunks that were in its hands are then tried alone, so that only the chunk that breaks it fails.

    A call counts once its answer is here. An object that is lost for good counts as one call.

    Args:
        reward: Reward of the objects. Each chunk sets it up and closes it, so a chunk should take longer than that.
        executor: ``package.module.Class`` of the executor, or a function that returns one; or an object with
            ``get_executor``, such as ``distributed.Client`` of Dask; or, from Python, the callable itself.
        options: Arguments of ``executor`` by name.
        chunk_size: Number of objects that a worker gets at a time.
        timeout: Time limit of a chunk in seconds, from when its worker begins; ``null`` for none. The work of a chunk
            that is too slow goes on in its worker, so give the inner reward a limit of its own for what may hang.
        retries: Number of times that a lost object is tried again.
    """

    def __init__(
        self,
        reward: "Scorer",
        executor: "Called" = "concurrent.futures.ProcessPoolExecutor",
        options: "dict[str, Any] | None" = None,
        chunk_size: int = 16,
        timeout: "float | None" = 3600.0,
        retries: int = 2,
    ) -> None:
        limits.check("chunk_size", chunk_size, 1)
        limits.check("timeout", timeout, 0, above=True)
        limits.check("retries", retries, 0)
        reward = scorer(reward, "the reward of DistributedReward")
        self.reward, self.chunk_size, self.timeout, self.retries = reward, chunk_size, timeout, retries
        self.name, self.unit, self.higher_is_better = reward.name, reward.unit, reward.higher_is_better
        self.executor, self.options = executor, dict(options or {})
        self._open: _Opened | None = None

    @property
    @override
    def worst_value(self) -> "float | None":
        return self.reward.worst_value

    @override
    def identity(self) -> Any:
        """Return the description of the inner reward, since the workers do not change scores."""
        return fingerprint(self.reward)

    @override
    def setup(self) -> None:
        """Open the executor and let one worker set the reward up."""
        pickled, answers = self._pickled(), SimpleQueue[Future[Any]]()
        future = _submitted(self._opened(), pickled, [], None)
        future.add_done_callback(answers.put)
        try:
            answers.get(timeout=PATIENCE)
        except Empty:
            # imported here, because Lightning takes seconds to import
            from graft.core.distributed import rank_zero_print

            rank_zero_print(f"the reward {self.name} waits for a worker of {_name(self.executor)}")
            answers.get()
        try:
            read_answer(_result(future), 0)
        except GraftError:
            self.teardown()
            raise
        except Unanswered as error:
            self.teardown()
            raise GraftError(
                f"no worker of {_name(self.executor)} can set up the reward {self.name} ({error}): start "
                "the workers with the packages and the files of this run"
            ) from None

    @override
    def teardown(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        scores = Scores([math.nan] * len(items), calls={})
        pickles: dict[int, bytes] = {}
        for i, item in enumerate(items):
            try:
                pickles[i] = pickle.dumps(item)
            except Exception as error:
                scores.failures[i] = f"the object cannot be pickled: {format_error(error)}"
                scores.free.add(i)  # the reward is not called for it
        _Scoring(self, self._pickled(), pickles, scores).run()
        return scores

    def _pickled(self) -> bytes:
        try:
            return pickle.dumps(self.reward)
        except Exception as error:
            raise GraftError(
                f"the reward {self.name} cannot be sent to other processes ({format_error(error)}): use a class or a "
                "function of a module, and no lambda"
            ) from None

    def _opened(self) -> "_Opened":
        if self._open is None:
            self._open = _Opened(self.executor, self.options)
        return self._open


@dataclass
class _Chunk:
    """Positions of objects that are scored together.

    Attributes:
        rows: The positions.
        tries: Number of times that the chunk, or the larger one of which it is a part, was lost.
        alone: True if no other chunk may run at the same time, since one of several broke the executor.
        start: Time of the submission.
    """

    rows: list[int]
    tries: int = 0
    alone: bool = False
    start: float = 0.0


class _Scoring:
    """One call of a distributed reward.

    Args:
        owner: The reward.
        reward: Pickle of the inner reward.
        pickles: Pickle of each object by position.
        scores: Scores to fill in.
    """

    def __init__(self, owner: DistributedReward, reward: bytes, pickles: "dict[int, bytes]", scores: Scores) -> None:
        self.owner, self.reward, self.pickles, self.scores = owner, reward, pickles, scores
        rows, size = list(pickles), owner.chunk_size
        self.waiting = deque(_Chunk(rows[start : start + size]) for start in range(0, len(rows), size))
        self.suspects: deque[_Chunk] = deque()
        self.running: dict[Future[Any], _Chunk] = {}
        self.done: SimpleQueue[Future[Any]] = SimpleQueue()
        self.calls: Counter[str] = Counter()
        self.names = [leaf.name for leaf in leaves(owner.reward)]
        self.breaks = 0
        self.last_answer = time.monotonic()

    def run(self) -> None:
        """Score all objects.

        Raises:
            GraftError: No worker can score with the reward or is left, or the executor cannot be opened.
        """
        try:
            while self.waiting or self.suspects or self.running:
                self._submit()
                try:
                    future = self.done.get(timeout=1.0)
                except Empty:
                    self._abandon_silent_chunks()
                    self._require_workers()
                    continue
                self.last_answer = time.monotonic()
                chunk = self.running.pop(future, None)
                if chunk is not None:  # the answer of an abandoned chunk comes too late
                    self._take(future, chunk)
        finally:
            for future in self.running:
                future.cancel()
                self.owner._opened().busy = True
            self.scores.calls = dict(self.calls)

    def _submit(self) -> None:
        """Give the executor as many chunks as it has workers, or all if their number is unknown."""
        opened = self.owner._opened()
        width = opened.workers or math.inf
        if opened.workers is not None and any(chunk.alone for chunk in self.running.values()):
            return
        while self.waiting and len(self.running) < width:
            self._start(opened, self.waiting.popleft())
        if self.suspects and not self.running:
            self._start(opened, self.suspects.popleft())

    def _start(self, opened: "_Opened", chunk: _Chunk) -> None:
        chunk.start = time.monotonic()
        future = _submitted(opened, self.reward, [self.pickles[i] for i in chunk.rows], self.owner.timeout)
        self.running[future] = chunk
        future.add_done_callback(self.done.put)

    def _take(self, future: "Future[Any]", chunk: _Chunk) -> None:
        """Take the answer of a chunk."""
        try:
            found = read_answer(_result(future), len(chunk.rows))
        except Unanswered as error:
            if error.broken:
                self._reopen(chunk, str(error))
            else:
                self._lose(chunk, str(error))
        else:
            self.breaks = 0
            self.calls.update(found.calls or {})
            for j, i in enumerate(chunk.rows):
                self.scores.values[i] = found.values[j]
            self.scores.failures |= {chunk.rows[j]: why for j, why in found.failures.items()}
            self.scores.free |= {chunk.rows[j] for j in found.free}

    def _reopen(self, chunk: _Chunk, why: str) -> None:
        """Close a broken executor, which opens again; a chunk that broke it alone is lost.

        Several chunks of a pool are tried one by one, since any of them may have broken it. Those of a cluster are all
        sent again, since its connection broke.
        """
        self.breaks += 1
        if self.breaks > MOST_BREAKS:
            raise GraftError(
                f"{_name(self.owner.executor)} broke {self.breaks} times in a row ({why}): look at the "
                "output of the workers, and score with fewer of them if they lack memory"
            )
        suspects, pool = [chunk, *self.running.values()], self.owner._opened().workers is not None
        self.running = {}
        self.owner.teardown()
        for suspect in suspects:
            suspect.alone = pool
            if pool and len(suspects) > 1:
                self.suspects.append(suspect)
            elif not pool and suspect.tries < self.owner.retries:
                suspect.tries += 1
                self.waiting.append(suspect)
            else:
                self._lose(suspect, f"its worker died ({why})")

    def _lose(self, chunk: _Chunk, why: str) -> None:
        """Queue the objects of a lost chunk one by one; fail them if they were tried often enough."""
        if chunk.tries < self.owner.retries:
            queue = self.suspects if chunk.alone else self.waiting
            queue.extend(_Chunk([i], chunk.tries + 1, chunk.alone) for i in chunk.rows)
            return
        tries = chunk.tries + 1
        for i in chunk.rows:
            self.scores.failures[i] = f"{why}, {tries} times of {tries}" if tries > 1 else why
            self.calls.update(self.names)

    def _abandon_silent_chunks(self) -> None:
        """Lose the chunks of a pool of known size that did not answer within the time limit and `GRACE`."""
        opened, limit = self.owner._opened(), self.owner.timeout
        if limit is None or opened.workers is None:  # a chunk may wait for a worker in the executor
            return
        now = time.monotonic()
        for future, chunk in list(self.running.items()):
            if now - chunk.start > limit + GRACE:
                del self.running[future]
                future.cancel()
                opened.busy = True
                self._lose(chunk, f"no answer within {limit:g} s")

    def _require_workers(self) -> None:
        """Raise GraftError if no worker of a cluster has answered for longer than a chunk may take."""
        limit = self.owner.timeout
        if limit is None or self.owner._opened().workers is not None:
            return
        if time.monotonic() - self.last_answer > limit + GRACE:
            raise GraftError(
                f"no worker of {_name(self.owner.executor)} has answered for {limit + GRACE:g} s: start workers and "
                "resume the run, or set a larger timeout of the reward"
            )


def _submitted(opened: "_Opened", reward: bytes, items: Sequence[bytes], timeout: "float | None") -> "Future[Any]":
    """Return the future of a chunk; an executor that takes no chunk gives a future with a BrokenExecutor."""
    try:
        return opened.submit(reward, items, timeout)
    except Exception as error:  # the executor is broken, or its cluster is gone
        future: Future[Any] = Future()
        future.set_exception(error if isinstance(error, BrokenExecutor) else BrokenExecutor(format_error(error)))
        return future


def _result(future: "Future[Any]") -> Any:
    """Return the result of a future that is done.

    Raises:
        Unanswered: It has none.
    """
    if future.cancelled():
        raise Unanswered("the executor cancelled it")
    error = future.exception()
    if error is not None:
        raise Unanswered(format_error(error), isinstance(error, BrokenExecutor))
    return future.result()


class _Opened:
    """An open executor.

    Attributes:
        workers: Number of chunks that run at a time in a pool; None if the number is unknown, as on a cluster.
        busy: True if chunks run whose answers count no more.

    Args:
        executor: Callable that returns the executor, or its dotted path.
        options: Arguments of it by name.

    Raises:
        GraftError: The executor cannot be opened.
    """

    def __init__(self, executor: "Called", options: "Mapping[str, Any]") -> None:
        make = import_callable(executor) if isinstance(executor, str) else executor
        self.busy = False
        try:
            self._source: Any = make(**_completed(make, options))
            found: Any = self._source
            if not isinstance(found, Executor) and hasattr(found, "get_executor"):
                found = found.get_executor()
        except GraftError:
            raise
        except Exception as error:
            raise GraftError(
                f"the executor {_name(executor)} cannot be opened ({format_error(error)}): correct its options, or "
                "start its cluster"
            ) from None
        if not isinstance(found, Executor):
            raise GraftError(
                f"{_name(executor)} returns {type(found).__name__}; it must return a "
                "concurrent.futures.Executor, or an object with get_executor(). Name another class or function."
            )
        self._executor: Executor = found
        count = options.get("max_workers", getattr(found, "_max_workers", None))
        self.workers: int | None = count if isinstance(count, int) and count > 0 else None

    def submit(self, reward: bytes, items: Sequence[bytes], timeout: "float | None") -> "Future[Any]":
        """Send a chunk to the executor."""
        number = uuid4().hex  # a cluster may take calls with equal arguments for one
        return self._executor.submit(score_chunk, reward, items, os.getcwd(), timeout, number)

    def close(self) -> None:
        """Close the executor; end the processes of a pool with chunks that still run."""
        if self.busy:
            for process in list((getattr(self._executor, "_processes", None) or {}).values()):
                process.kill()
        with contextlib.suppress(Exception):  # the workers may be gone
            self._executor.shutdown(wait=not self.busy)
        if self._source is not self._executor and hasattr(self._source, "close"):
            with contextlib.suppress(Exception):
                self._source.close()


def _completed(make: Any, options: "Mapping[str, Any]") -> dict[str, Any]:
    """Return the options with those that a pool of processes needs: a forked copy of this process may deadlock."""
    out = dict(options)
    if isinstance(make, type) and issubclass(make, ProcessPoolExecutor):
        context = out.get("mp_context") or "spawn"
        out["mp_context"] = multiprocessing.get_context(context) if isinstance(context, str) else context
        out.setdefault("initializer", ignore_interrupts)
    return out


def _name(executor: "Called") -> str:
    return executor if isinstance(executor, str) else str(getattr(executor, "__qualname__", executor))
