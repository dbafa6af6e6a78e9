"""Several workers of one callable: each call has a time limit.

A crash fails one call alone.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any

from graft.core import threads
from graft.errors import GraftError
from graft.reward.worker import Worker


class Workers:
    """Several workers; a worker that hangs or dies is replaced at its next call.

    Args:
        count: Number of workers, at least 1.
        path: Dotted path of the callable.
        timeout: Time limit of a call in seconds.
        python: Interpreter of the workers; this one if not given.
        environment: Environment variables of the workers; by default those that divide the cores among them.
    """

    def __init__(
        self,
        count: int,
        path: str,
        timeout: float,
        python: "str | None" = None,
        environment: "Mapping[str, str] | None" = None,
    ) -> None:
        if environment is None:
            environment = threads.of_workers(count)  # without limits each would start a thread for every core
        self.workers = [Worker(path, timeout, python, environment) for _ in range(count)]

    def call(self, argument: Any) -> Any:
        """Return the value of one worker; raise the errors of `graft.reward.worker.Worker.call`."""
        return self.workers[0].call(argument)

    def caller(self) -> Callable[[Any], Any]:
        """Return a function like `call` for several threads: each call takes a free worker, or waits for one."""
        free: SimpleQueue[Worker] = SimpleQueue()
        for worker in self.workers:
            free.put(worker)

        def call(argument: Any) -> Any:
            worker = free.get()
            try:
                return worker.call(argument)
            finally:
                free.put(worker)

        return call

    def map(self, arguments: Sequence[Any]) -> list[Any]:
        """Return the value for each argument, in order; the exception in place of a failed call.

        Raises:
            GraftError: A worker cannot start.
        """
        if len(self.workers) == 1 or len(arguments) < 2:
            return [_tried(self.call, argument) for argument in arguments]
        pool = ThreadPoolExecutor(len(self.workers))
        try:
            return list(pool.map(partial(_tried, self.caller()), arguments))
        finally:
            pool.shutdown(cancel_futures=True)

    def start(self) -> None:
        """Start one worker, to check that it can start."""
        self.workers[0].start()

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.close()

    def kill(self) -> None:
        """End all workers at once, also those that are busy."""
        for worker in self.workers:
            worker.kill()


def _tried(call: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return call(argument)
    except GraftError:
        raise
    except Exception as error:  # the call failed, or its argument cannot be pickled
        return error
