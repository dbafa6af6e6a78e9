"""Several workers of one callable: each call has a time limit, and what one does to its process is no other's loss."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from graft import threads
from graft.errors import GraftError
from graft.reward.worker import Worker


class Workers:
    """As many workers; a worker that hangs or dies is replaced at its next call.

    Args:
        count: At least 1.
        path: Dotted path of the callable.
        timeout: Seconds that one call may take.
        python: Interpreter of the workers; this one if not given.
    """

    def __init__(self, count: int, path: str, timeout: float, python: "str | None" = None) -> None:
        environment = threads.of_workers(count)  # else each would start a thread for every core
        self.workers = [Worker(path, timeout, python, environment) for _ in range(count)]

    def call(self, argument: Any) -> Any:
        """What one worker says; raises what `graft.reward.worker.Worker.call` raises."""
        return self.workers[0].call(argument)

    def map(self, arguments: Sequence[Any]) -> list[Any]:
        """What is said of each argument, in their order; the exception in the place of what failed.

        Raises:
            GraftError: A worker cannot start.
        """
        if len(self.workers) == 1 or len(arguments) < 2:
            return [_tried(self.workers[0], argument) for argument in arguments]
        free: SimpleQueue[Worker] = SimpleQueue()
        for worker in self.workers:
            free.put(worker)

        def one(argument: Any) -> Any:
            worker = free.get()
            try:
                return _tried(worker, argument)
            finally:
                free.put(worker)

        pool = ThreadPoolExecutor(len(self.workers))
        try:
            return list(pool.map(one, arguments))
        finally:
            pool.shutdown(cancel_futures=True)

    def start(self) -> None:
        """Start one, to see that it can."""
        self.workers[0].start()

    def close(self) -> None:
        """End all."""
        for worker in self.workers:
            worker.close()


def _tried(worker: Worker, argument: Any) -> Any:
    try:
        return worker.call(argument)
    except GraftError:
        raise
    except Exception as error:  # a call that failed; also an argument that cannot be sent
        return error
