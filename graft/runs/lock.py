"""Lock the folder of a run, so that one process at a time writes to it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graft.errors import GraftError

_held: dict[Path, int] = {}  # descriptors of locked folders; closing a descriptor releases the lock


def lock_folder(folder: Path) -> None:
    """Lock the folder of a run until `release_locks_after` or this process ends.

    A process may lock the same folder twice. On a file system without locks the function has no effect.

    Args:
        folder: Existing folder of the run.

    Raises:
        GraftError: Another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    place = folder.resolve()
    if place in _held and _is_there(_held[place], place):
        return
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise GraftError(
            f"another process is writing the run in {folder}: wait until it ends, or choose another --run_dir"
        ) from None
    except OSError:  # a file system without locks
        os.close(descriptor)
        return
    _held[place] = descriptor


@contextmanager
def release_locks_after() -> Iterator[None]:
    """Release the locks at the end of the block that were first taken within it."""
    before = set(_held)
    try:
        yield
    finally:
        for place in _held.keys() - before:
            os.close(_held.pop(place))


def _is_there(descriptor: int, place: Path) -> bool:
    """Return True if a descriptor still refers to the folder, which may have been replaced."""
    return os.path.samestat(os.fstat(descriptor), place.stat())
