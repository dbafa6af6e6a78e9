"""Chunks of molecules in several processes."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from graft.core import threads
from graft.reward.workers import Workers

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
    workers = Workers(
        count, f"{function.__module__}.{function.__qualname__}", _LONGEST, environment={threads.THREADS: "1"}
    )
    pool = ThreadPoolExecutor(count)
    try:
        yield from pool.map(workers.caller(), arguments)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # no thread may start another process
        workers.kill()
        pool.shutdown()
