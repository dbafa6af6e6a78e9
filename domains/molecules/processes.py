"""Chunks of molecules in several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from graft.core import threads
from graft.reward.worker import Worker

CHUNK = 4000
"""Molecules of a chunk: enough that a process takes longer for them than for its start."""

_LONGEST = 86_400.0  # seconds that a chunk may take


def map_in_processes(function: Callable[[Any], Any], arguments: Sequence[Any]) -> Iterator[Any]:
    """Yield the value of ``function`` for each argument, in order, from as many processes as there are cores.

    With one argument or one core no process is started.

    Args:
        function: Function of a module. Its argument and its value are pickled.
        arguments: The arguments.

    Raises:
        GraftError: A process cannot start.
        RuntimeError: A process died, or the function raised an error.
    """
    count = min(threads.cores(), len(arguments))
    if count < 2:
        yield from map(function, arguments)
        return
    path = f"{function.__module__}.{function.__qualname__}"
    workers = [Worker(path, _LONGEST, environment={threads.THREADS: "1"}) for _ in range(count)]
    free: SimpleQueue[Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def call(argument: Any) -> Any:
        worker = free.get()
        try:
            return worker.call(argument)
        finally:
            free.put(worker)

    pool = ThreadPoolExecutor(count)
    try:
        yield from pool.map(call, arguments)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # no thread may start another process
        for worker in workers:
            worker.kill()
        pool.shutdown()
