"""Score many objects by an executor, chunk by chunk; lost chunks are scored again."""

import math
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from graft.errors import GraftError
from graft.reward.executors import ExecutorHandle, result_of
from graft.reward.remote import ChunkFailed, read_answer
from graft.reward.scores import Scores

GRACE = 60.0
"""Seconds beyond the time limit of a chunk after which its answer, or any answer of a cluster, is missing."""
MOST_BREAKS = 20
"""Number of times in a row that an executor may break without one answer."""


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


@dataclass(frozen=True)
class ChunkSettings:
    """How objects are scored.

    Attributes:
        chunk_size: Number of objects of a chunk.
        timeout: Time limit of a chunk in seconds; None for none.
        retries: Number of times that a lost object is tried again.
        names: Names of the rewards of which a lost object counts as one call each.
    """

    chunk_size: int
    timeout: "float | None"
    retries: int
    names: Sequence[str]


class ChunkScoring:
    """One call of a distributed reward.

    Args:
        executor: The executor.
        reward: Pickle of the inner reward.
        pickles: Pickle of each object by position.
        settings: How the objects are scored.
        scores: Scores to fill in.
    """

    def __init__(
        self,
        executor: ExecutorHandle,
        reward: bytes,
        pickles: Mapping[int, bytes],
        settings: ChunkSettings,
        scores: Scores,
    ) -> None:
        self.executor, self.reward, self.pickles = executor, reward, pickles
        self.settings, self.scores = settings, scores
        rows, size = list(pickles), settings.chunk_size
        self.waiting = deque(_Chunk(rows[start : start + size]) for start in range(0, len(rows), size))
        self.suspects: deque[_Chunk] = deque()
        self.running: dict[Future[Any], _Chunk] = {}
        self.done: SimpleQueue[Future[Any]] = SimpleQueue()
        self.calls: Counter[str] = Counter()
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
                self.executor.opened().busy = True
            self.scores.calls = dict(self.calls)

    def _submit(self) -> None:
        """Give the executor as many chunks as it has workers, or all if their number is unknown."""
        opened = self.executor.opened()
        width = opened.workers or math.inf
        if opened.workers is not None and any(chunk.alone for chunk in self.running.values()):
            return
        while self.waiting and len(self.running) < width:
            self._start(self.waiting.popleft())
        if self.suspects and not self.running:
            self._start(self.suspects.popleft())

    def _start(self, chunk: _Chunk) -> None:
        chunk.start = time.monotonic()
        future = self.executor.submit(self.reward, [self.pickles[i] for i in chunk.rows], self.settings.timeout)
        self.running[future] = chunk
        future.add_done_callback(self.done.put)

    def _take(self, future: "Future[Any]", chunk: _Chunk) -> None:
        """Take the answer of a chunk."""
        try:
            found = read_answer(result_of(future), len(chunk.rows))
        except ChunkFailed as error:
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
            self.scores.cached |= {chunk.rows[j] for j in found.cached}

    def _reopen(self, chunk: _Chunk, why: str) -> None:
        """Close a broken executor, which opens again; a chunk that broke it alone is lost.

        Several chunks of a pool are tried one by one, since any of them may have broken it. Those of a cluster are all
        sent again, since its connection broke.
        """
        self.breaks += 1
        if self.breaks > MOST_BREAKS:
            raise GraftError(
                f"{self.executor.name} broke {self.breaks} times in a row ({why}): look at the "
                "output of the workers, and score with fewer of them if they lack memory"
            )
        suspects, pool = [chunk, *self.running.values()], self.executor.opened().workers is not None
        self.running = {}
        self.executor.close()
        for suspect in suspects:
            suspect.alone = pool
            if pool and len(suspects) > 1:
                self.suspects.append(suspect)
            elif not pool and suspect.tries < self.settings.retries:
                suspect.tries += 1
                self.waiting.append(suspect)
            else:
                self._lose(suspect, f"its worker died ({why})")

    def _lose(self, chunk: _Chunk, why: str) -> None:
        """Queue the objects of a lost chunk one by one; fail them if they were tried often enough."""
        if chunk.tries < self.settings.retries:
            queue = self.suspects if chunk.alone else self.waiting
            queue.extend(_Chunk([i], chunk.tries + 1, chunk.alone) for i in chunk.rows)
            return
        tries = chunk.tries + 1
        for i in chunk.rows:
            self.scores.failures[i] = f"{why}, {tries} times of {tries}" if tries > 1 else why
            self.calls.update(self.settings.names)

    def _abandon_silent_chunks(self) -> None:
        """Lose the chunks of a pool of known size that did not answer within the time limit and `GRACE`."""
        opened, limit = self.executor.opened(), self.settings.timeout
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
        limit = self.settings.timeout
        if limit is None or self.executor.opened().workers is not None:
            return
        if time.monotonic() - self.last_answer > limit + GRACE:
            raise GraftError(
                f"no worker of {self.executor.name} has answered for {limit + GRACE:g} s: start workers and "
                "resume the run, or set a larger timeout of the reward"
            )
