"""Atomic writes: a file gets its final name only when it is whole and on the disk."""

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from graft.errors import GraftError, WriteError


@contextmanager
def atomic_write(path: "str | Path") -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` if the block ends without an error.

    Raises:
        WriteError: The file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise
        raise WriteError(f"cannot write {path} ({error}): free the disk or choose another folder") from None
    finally:
        temporary.unlink(missing_ok=True)


def mode_of_new_file(path: Path) -> int:
    """Create an empty file and return its mode, which follows the umask of the user.

    The mode must be set explicitly because safetensors writes files with mode 0600 under any umask.
    """
    path.touch()
    return stat.S_IMODE(path.stat().st_mode)


def _set_modes(folder: Path) -> None:
    """Set the mode of safetensors files below a folder to the mode of a new file."""
    probe = folder / f".mode.{os.getpid()}.part"
    mode = mode_of_new_file(probe)
    probe.unlink()
    for path in folder.rglob("*.safetensors"):
        path.chmod(mode)


def sync(path: "str | Path") -> None:
    """Force a file, or every file below a folder, onto the disk.

    A file gets its final name only after this. Otherwise a crash of the machine may leave an empty file of that name.
    """
    path = Path(path)
    for each in [path] if path.is_file() else sorted(path.rglob("*")):
        if each.is_file():
            with open(each, "rb") as file:
                os.fsync(file.fileno())


def write_text(path: "str | Path", text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: "str | Path", data: bytes) -> None:
    """Write a binary file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_with(path: "str | Path", write: "Callable[[Path], object]") -> None:
    """Call ``write(path)`` on a temporary folder, then move its files into place.

    The temporary path has the name of ``path``, because a domain chooses the format by the suffix. The writer may write
    further files into the same folder.

    Args:
        path: Final path of the file.
        write: Function that writes the file.

    Raises:
        GraftError: A file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.mkdir(parents=True, exist_ok=True)
        write(temporary / path.name)
        _set_modes(temporary)
        sync(temporary)
        for each in sorted(temporary.iterdir()):
            os.replace(each, path.with_name(each.name))
    except GraftError as error:
        raise GraftError(str(error).replace(str(temporary / path.name), str(path))) from None
    except OSError as error:
        raise WriteError(f"cannot write {path} ({error}): free the disk or choose another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(folder: "str | Path", write: "Callable[[Path], object]") -> None:
    """Call ``write`` on a new folder, then replace ``folder`` by it.

    Args:
        folder: Folder that only graft writes to. An earlier folder is removed with all its content.
        write: Function of the path of the new, existing folder.

    Raises:
        GraftError: The folder cannot be written.
    """
    folder = Path(folder)
    new, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{state}") for state in ("part", "old"))
    try:
        new.mkdir(parents=True, exist_ok=True)
        write(new)
        _set_modes(new)
        sync(new)
        if folder.is_dir() and not folder.is_symlink():
            folder.rename(old)
        new.rename(folder)
    except OSError as error:
        if old.is_dir() and not folder.exists():
            old.rename(folder)
        raise WriteError(f"cannot write {folder} ({error}): free the disk or choose another folder") from None
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)
