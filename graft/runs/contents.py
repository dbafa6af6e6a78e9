"""What lies in the folder of a run: files of others, links out of it, and what a killed session left."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graft import distributed
from graft.errors import GraftError, WriteError
from graft.runs.lock import hold, holding

CONFIG = "config.yaml"
ELAPSED = "elapsed.json"
PROGRESS = ("metrics.csv", "levels.json")  # files that only a run that has begun has
FOLDERS = ("rounds", "checkpoints", "recovered", "samples")  # folders that graft fills
TEMPORARY = re.compile(r"\..+\.(\d+)\.(part|old)")  # as `graft.files` names them, with the id of the process


def refuse_foreign(folder: Path) -> None:
    """Raise GraftError if the folder of a new run holds anything: the run would overwrite files of the same name.

    What a killed session of graft left is removed first.
    """
    if not folder.is_dir():
        return
    remove_temporary(folder)
    names = sorted(path.name for path in folder.iterdir())
    if names:
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise GraftError(
            f"--run_dir is {folder}, which holds {shown}; it must be empty, or hold the run to go on with. Choose "
            "another --run_dir"
        )


def refuse_links(folder: Path) -> None:
    """Raise GraftError if a place in a run's folder is a symbolic link: graft would write or delete elsewhere.

    The folder itself may be a link. Links to files that are replaced as a whole do no harm and are not looked at.
    """
    for path in [*_entries(folder), *(path for name in FOLDERS for path in _entries(folder / name))]:
        if path.is_symlink() and (not path.is_file() or path.name in (*PROGRESS, ELAPSED)):
            raise GraftError(_linked(path))


def refuse_linked_round(folder: Path) -> None:
    """Raise GraftError if the folder of a round, or the one that holds it, is a symbolic link."""
    for path in (folder, folder.parent):
        if path.is_symlink():
            raise GraftError(_linked(path))


def _linked(path: Path) -> str:
    return (
        f"{path} is a link to {os.readlink(path)}, and graft writes and deletes in the run's own folder only: put a "
        "folder or file in its place, or link the run's folder as a whole"
    )


def remove_temporary(folder: Path, everywhere: bool = False) -> None:
    """Remove what a killed session of graft was writing; what a living process writes stays.

    Args:
        folder: Folder of a run, or of a comparison.
        everywhere: Look into every folder below it, and not only into those that a run fills.
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
    """Return whether another process has the id; what has this one's was left by an earlier process."""
    if process == os.getpid() or os.name == "nt":  # where the call below would interrupt it
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it belongs to somebody else
        return True
    return True


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _below(folder: Path) -> Iterator[Path]:
    """Yield the entries of a folder and of the folders in it, links not followed."""
    for path in [] if folder.is_symlink() else _entries(folder):
        yield path
        if path.is_dir() and not path.is_symlink() and not TEMPORARY.fullmatch(path.name):
            yield from _below(path)


@contextmanager
def withdrawn(folder: Path) -> Iterator[None]:
    """Remove ``config.yaml`` if the block fails before there is anything to resume.

    Otherwise ``--ckpt_path auto`` would take a refused run for an unfinished one. A run that could not write is not
    refused: it goes on once there is room.
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
    """Remove what a run that did not begin left, unless the folder is another process's."""
    with holding():
        try:
            hold(folder)
        except GraftError:
            return
        if resumable(folder):
            return
        for name in (CONFIG, ELAPSED):
            (folder / name).unlink(missing_ok=True)
        for path in (folder / name for name in FOLDERS):
            if not path.is_symlink():
                _remove_if_empty(path)


def resumable(folder: Path) -> bool:
    """Return whether a run left something to resume: a draw, a checkpoint, or a logged step."""
    if any((folder / name).exists() for name in PROGRESS):
        return True
    return any(path.is_file() for name in FOLDERS if name != "samples" for path in _below(folder / name))


def _remove_if_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # not there, or not empty
        pass
