"""One process writes to a run's folder at a time."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graft.errors import GraftError

_held: dict[Path, int] = {}  # descriptors of folders: closing one lets go of its lock


def hold(folder: Path) -> None:
    """Hold a run's folder until `holding` ends, or until this process ends, however it ends.

    The process that holds a folder may hold it again. Where the file system has no locks, nothing is held.

    Args:
        folder: The run's, which exists.

    Raises:
        GraftError: Another process holds it.
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
def holding() -> Iterator[None]:
    """Let go, after the block, of the folders that were first held in it."""
    before = set(_held)
    try:
        yield
    finally:
        for place in _held.keys() - before:
            os.close(_held.pop(place))


def _is_there(descriptor: int, place: Path) -> bool:
    """Return whether a descriptor is the folder's, which may have been removed and made anew."""
    return os.path.samestat(os.fstat(descriptor), place.stat())
