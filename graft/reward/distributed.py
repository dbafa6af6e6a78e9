"""A reward that any executor of Python scores, for workers on one machine or on many."""

import math
import pickle
from collections.abc import Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any

from typing_extensions import override

from graft.core import limits
from graft.errors import GraftError
from graft.reward.calls import leaves
from graft.reward.chunk_scoring import ChunkScoring, ChunkSettings
from graft.reward.executors import ExecutorHandle, result_of
from graft.reward.function import Called, Scorer, scorer
from graft.reward.remote import ChunkFailed, read_answer
from graft.reward.scores import Scores, format_error
from graft.reward.wrapped import SameScores

PATIENCE = 30.0
"""Seconds without a worker after which a message says that the run waits for one."""


class DistributedReward(SameScores):
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
            that is too slow continues in its worker, so give the inner reward a limit of its own for what may hang.
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
        super().__init__(scorer(reward, "the reward of DistributedReward"))
        self.chunk_size, self.timeout, self.retries = chunk_size, timeout, retries
        self.executor, self.options = executor, dict(options or {})
        self._handle = ExecutorHandle(executor, self.options)

    @override
    def setup(self) -> None:
        """Open the executor and let one worker set the reward up."""
        pickled, answers = self._pickled(), SimpleQueue[Future[Any]]()
        future = self._handle.submit(pickled, [], None)
        future.add_done_callback(answers.put)
        try:
            answers.get(timeout=PATIENCE)
        except Empty:
            # imported here, because Lightning takes seconds to import
            from graft.core.distributed import rank_zero_print

            rank_zero_print(f"the reward {self.name} waits for a worker of {self._handle.name}")
            answers.get()
        try:
            read_answer(result_of(future), 0)
        except GraftError:
            self.teardown()
            raise
        except ChunkFailed as error:
            self.teardown()
            raise GraftError(
                f"no worker of {self._handle.name} can set up the reward {self.name} ({error}): start "
                "the workers with the packages and the files of this run"
            ) from None

    @override
    def teardown(self) -> None:
        self._handle.close()

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        scores = Scores([math.nan] * len(items), calls={})
        pickles: dict[int, bytes] = {}
        for i, item in enumerate(items):
            try:
                pickles[i] = pickle.dumps(item)
            except Exception as error:
                scores.failures[i] = f"the object cannot be pickled: {format_error(error)}"
                scores.cached.add(i)  # the reward is not called for it
        names = [leaf.name for leaf in leaves(self.reward)]
        settings = ChunkSettings(self.chunk_size, self.timeout, self.retries, names)
        ChunkScoring(self._handle, self._pickled(), pickles, settings, scores).run()
        return scores

    def _pickled(self) -> bytes:
        try:
            return pickle.dumps(self.reward)
        except Exception as error:
            raise GraftError(
                f"the reward {self.name} cannot be sent to other processes ({format_error(error)}): use a class or a "
                "function of a module, and no lambda"
            ) from None
