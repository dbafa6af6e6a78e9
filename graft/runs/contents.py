"""Checks of the folder of a run: foreign files, symbolic links, and temporary files."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from graft.core import distributed
from graft.errors import GraftError, WriteError
from graft.runs.lock import lock_folder, release_locks_after

CONFIG = "config.yaml"
ELAPSED = "elapsed.json"
PROGRESS = ("metrics.csv", "levels.json")  # these files exist only after a run has begun
FOLDERS = ("rounds", "checkpoints", "recovered", "samples", "ratings")  # folders that graft fills
TEMPORARY = re.compile(r"\..+\.(\d+)\.(part|old)")  # names by `graft.io`, with the process id


def refuse_foreign(folder: Path) -> None:
    """Raise GraftError if the folder of a new run is not empty.

    The run would overwrite files of the same name. Temporary files of a killed session are removed first.
    """
    if not folder.is_dir():
        return
    remove_temporary(folder)
    names = sorted(path.name for path in folder.iterdir())
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise GraftError(
            f"--run_dir is {folder}, which holds {shown}; it must be empty, or hold the run to resume. Choose "
            "another --run_dir"
        )


def refuse_links(folder: Path) -> None:
    """Raise GraftError if an entry in the folder of a run is a symbolic link.

    Through a link, graft would write or delete elsewhere. The folder itself may be a link. A link to a file that graft
    replaces as a whole is harmless and is allowed.
    """
    for path in [*_entries(folder), *(path for name in FOLDERS for path in _entries(folder / name))]:
        if path.is_symlink() and (not path.is_file() or path.name in (*PROGRESS, ELAPSED)):
            raise GraftError(_linked(path))


def refuse_linked_round(folder: Path) -> None:
    """Raise GraftError if the folder of a round, or its parent, is a symbolic link."""
    for path in (folder, folder.parent):
        if path.is_symlink():
            raise GraftError(_linked(path))


def _linked(path: Path) -> str:
    return (
        f"{path} is a link to {os.readlink(path)}, and graft writes and deletes in the run's own folder only: replace "
        "the link by a folder or file, or link the folder of the run as a whole"
    )


def remove_temporary(folder: Path, everywhere: bool = False) -> None:
    """Remove temporary files of killed sessions; those of living processes stay.

    Args:
        folder: Folder of a run or of a comparison.
        everywhere: True to search all folders below ``folder``; False to search only the folders of a run.
    """
    found = _below(folder) if everywhere else (path for name in FOLDERS for path in _below(folder / name))
    for path in [*_entries(folder), *found]:
        match = TEMPORARY.fullmatch(path.name)
        if match is None or path.is_symlink() or _lives(int(match[1])):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    """Return True if another living process has the id.

    A file with the id of this process was left by an earlier process.
    """
    if process == os.getpid() or os.name == "nt":  # on Windows the call below would interrupt the process
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # the process belongs to another user
        pass
    return True


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _below(folder: Path) -> Iterator[Path]:
    """Yield all entries below a folder, without following links."""
    for path in [] if folder.is_symlink() else _entries(folder):
        yield path
        if path.is_dir() and not path.is_symlink() and not TEMPORARY.fullmatch(path.name):
            yield from _below(path)


@contextmanager
def without_config_of_failed_start(folder: Path) -> Iterator[None]:
    """Remove ``config.yaml`` if the block fails before there is a state to resume.

    Otherwise ``--ckpt_path auto`` would take a refused run for an unfinished one. After a `WriteError` the file stays:
    the run can resume once the disk has room.
    """
    try:
        yield
    except WriteError:
        raise
    except Exception:
        if distributed.is_rank_zero() and folder.is_dir():
            _withdraw(folder)
        raise


def _withdraw(folder: Path) -> None:
    """Remove the files of a run that did not begin, unless another process holds the folder."""
    with release_locks_after():
        try:
            lock_folder(folder)
        except GraftError:
            return
        if resumable(folder):
            return
        for name in (CONFIG, ELAPSED):
            (folder / name).unlink(missing_ok=True)
        for path in (folder / name for name in FOLDERS):
            if not path.is_symlink():
                with suppress(OSError):  # not there, or not empty
                    path.rmdir()


def resumable(folder: Path) -> bool:
    """Return True if a run left a draw, a checkpoint or a logged step to resume from."""
    if any((folder / name).exists() for name in PROGRESS):
        return True
    return any(path.is_file() for name in FOLDERS if name != "samples" for path in _below(folder / name))
