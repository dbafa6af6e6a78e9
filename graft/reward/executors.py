"""Executors of Python: opened by a dotted path, called for chunks, and closed."""

import contextlib
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from typing import Any
from uuid import uuid4

from graft.errors import GraftError
from graft.reward.function import Called, import_callable
from graft.reward.remote import ChunkFailed, ignore_interrupts, score_chunk
from graft.reward.scores import format_error


class ExecutorHandle:
    """An executor that is opened when it is needed, and opened again after it was closed.

    Args:
        make: Callable that returns the executor, or its dotted path.
        options: Arguments of it by name.
    """

    def __init__(self, make: "Called", options: "Mapping[str, Any]") -> None:
        self._make, self._options = make, options
        self._open: OpenExecutor | None = None

    @property
    def name(self) -> str:
        """Return the name of the callable."""
        return _name(self._make)

    def opened(self) -> "OpenExecutor":
        """Return the open executor.

        Raises:
            GraftError: The executor cannot be opened.
        """
        if self._open is None:
            self._open = OpenExecutor(self._make, self._options)
        return self._open

    def submit(self, reward: bytes, items: Sequence[bytes], timeout: "float | None") -> "Future[Any]":
        """Return the future of a chunk; an executor that takes no chunk gives a future with a BrokenExecutor."""
        opened = self.opened()
        try:
            return opened.submit(reward, items, timeout)
        except Exception as error:  # the executor is broken, or its cluster is gone
            future: Future[Any] = Future()
            future.set_exception(error if isinstance(error, BrokenExecutor) else BrokenExecutor(format_error(error)))
            return future

    def close(self) -> None:
        """Close the executor if it is open."""
        if self._open is not None:
            self._open.close()
            self._open = None


class OpenExecutor:
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


def result_of(future: "Future[Any]") -> Any:
    """Return the result of a future that is done.

    Raises:
        Unanswered: It has none.
    """
    if future.cancelled():
        raise ChunkFailed("the executor cancelled it")
    error = future.exception()
    if error is not None:
        raise ChunkFailed(format_error(error), isinstance(error, BrokenExecutor))
    return future.result()
