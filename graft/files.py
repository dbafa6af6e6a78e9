"""Files: found by name, written atomically, and never unpickled."""

import hashlib
import importlib.util
import itertools
import json
import math
import os
import pickle
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graft import plain_json
from graft.errors import GraftError, WriteError

FORMAT = 2
"""Format number of the files that graft writes. From format 2 on, a file holds a checksum."""


class ForeignError(GraftError):
    """A file was not written by graft."""


def domain_roots() -> list[Path]:
    """Return every folder that holds a part of the ``domains`` namespace, of graft or others."""
    spec = importlib.util.find_spec("domains")  # looked up and not imported, because the core must not import domains
    return [Path(part).parent for part in spec.submodule_search_locations or ()] if spec else []


def search_paths() -> list[Path]:
    """Return the folders in which names are looked up, in order.

    They are the current folder, its ``configs``, the installed ``configs`` and the `domain_roots`.
    """
    package = Path(__file__).parent
    found: list[Path] = []
    for root in [Path.cwd(), Path.cwd() / "configs", package / "configs", package.parent / "configs", *domain_roots()]:
        if root.is_dir() and root not in found:
            found.append(root)
    return found


def find_file(name: "str | Path") -> Path:
    """Return the path of a file, found as a path or below one of the `search_paths`.

    Raises:
        GraftError: There is no such file.
    """
    path = Path(name)
    candidates = [path] if path.is_absolute() else [root / path for root in search_paths()]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise GraftError(f"there is no file {str(name)!r}, neither here nor in the installed packages")


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
        synced(temporary)
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


def _modes_by_umask(folder: Path) -> None:
    """Set the mode of safetensors files below a folder to the mode of a new file."""
    probe = folder / f".mode.{os.getpid()}.part"
    mode = mode_of_new_file(probe)
    probe.unlink()
    for path in folder.rglob("*.safetensors"):
        path.chmod(mode)


def synced(path: "str | Path") -> None:
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


def write_json(path: "str | Path", value: Any) -> None:
    """Write JSON atomically; raise ValueError for NaN and infinity, which JSON lacks."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


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
        _modes_by_umask(temporary)
        synced(temporary)
        for each in sorted(temporary.iterdir()):
            os.replace(each, path.with_name(each.name))
    except GraftError as error:
        raise GraftError(str(error).replace(str(temporary / path.name), str(path))) from None
    except OSError as error:
        raise WriteError(f"cannot write {path} ({error}): free the disk or choose another folder") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def written_folder(folder: "str | Path", write: "Callable[[Path], object]") -> None:
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
        _modes_by_umask(new)
        synced(new)
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


def read_json(path: "str | Path", remedy: str) -> Any:
    """Return the content of a JSON file.

    Args:
        path: Path of the file.
        remedy: Advice for a damaged file, for the message.

    Raises:
        GraftError: The file is missing or is not JSON.
    """
    try:
        return plain_json.parse(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise GraftError(f"{path} is missing or damaged ({error}): {remedy}") from None


def write_checked_json(path: "str | Path", content: "dict[str, Any]") -> None:
    """Write a JSON object atomically, with its format and checksum."""
    plain = {**content, "format": FORMAT}
    write_json(path, {**plain, "sha256": _hash_of_json(plain)})


def read_checked_json(path: "str | Path", remedy: str) -> dict[str, Any]:
    """Return the content of a file that `write_checked_json` wrote.

    Args:
        path: Path of the file.
        remedy: Advice for a damaged file, for the message.

    Raises:
        GraftError: The file is missing, damaged, changed, or from another version of graft.
    """
    content = read_json(path, remedy)
    if not isinstance(content, dict):
        raise GraftError(f"{path} is damaged (it holds no names): {remedy}")
    _known_format(path, content)
    said = content.pop("sha256", None)
    if said != _hash_of_json(content):
        raise GraftError(f"{path} was changed since it was written (its checksum does not match): {remedy}")
    del content["format"]
    return content


def _hash_of_json(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _known_format(path: "str | Path", about: dict[str, Any]) -> None:
    found = about.get("format", 1)
    if not isinstance(found, int) or not 1 <= found <= FORMAT:
        raise GraftError(f"{path} was written by another version of graft: its format is {found!r}, not {FORMAT}")


def write_tensors(path: "str | Path", tensors: dict[str, Tensor], about: "dict[str, Any] | None" = None) -> None:
    """Write a safetensors file atomically, with metadata, format and checksum in its header.

    Args:
        path: Path of the file.
        tensors: Tensors by name.
        about: Metadata, written as JSON.
    """
    with atomic_write(path) as temporary:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        note = {**(about or {}), "format": FORMAT}
        mode = mode_of_new_file(temporary)
        save_file(plain, temporary, {"graft": json.dumps({**note, "sha256": _seal(plain, note)})})
        temporary.chmod(mode)


@contextmanager
def _opened(path: "str | Path") -> "Iterator[tuple[Any, dict[str, Any]]]":
    """Yield (open safetensors file, metadata) of a file that `write_tensors` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            about = plain_json.parse((file.metadata() or {}).get("graft", "null"))
            if not isinstance(about, dict):
                raise ForeignError(f"{path} is a safetensors file, but graft did not write it")
            _known_format(path, about)
            yield file, about
    except FileNotFoundError:
        raise GraftError(f"there is no file {path}") from None
    except GraftError:
        raise
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise GraftError(f"{path} is no safetensors file or is truncated ({error})") from None


def read_tensors(path: "str | Path") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the metadata of a file that `write_tensors` wrote.

    The tensors are memory-mapped: after the check of the checksum, unused tensors take no memory.

    Raises:
        GraftError: The file is missing, truncated, changed, or of another kind.
    """
    with _opened(path) as (file, about):
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    said = about.pop("sha256", None)
    if (said or about.get("format", 1) > 1) and said != _seal(tensors, about):
        raise GraftError(f"{path} was changed since it was written: its checksum does not match")
    about.pop("format", None)
    return tensors, about


def read_metadata(path: "str | Path") -> dict[str, Any]:
    """Return the metadata of a file that `write_tensors` wrote, without reading tensors.

    Raises:
        GraftError: The file is missing, truncated or of another kind.
    """
    with _opened(path) as (_, about):
        return about


@contextmanager
def mapped_writer(
    path: "str | Path", rows: int, about: "dict[str, Any] | None" = None
) -> "Iterator[Callable[[dict[str, Tensor]], dict[str, Tensor]]]":
    """Write a safetensors file in place through memory-mapped tensors, larger than the memory.

    The block gets a function. Its argument is a first part of the tensors by name, for their types and their shapes
    without the first dimension. Its result is the memory-mapped tensors with ``rows`` rows, to be filled. The file gets
    its final name when the block ends.

    Args:
        path: Path of the file.
        rows: Number of rows of each tensor.
        about: Metadata, written as JSON.

    Raises:
        GraftError: The block did not call the function, or the file cannot be written.
    """
    note = {**(about or {}), "format": FORMAT}
    made: dict[str, Tensor] = {}
    place: list[int] = []
    with atomic_write(path) as temporary:

        def mapped(like: dict[str, Tensor]) -> dict[str, Tensor]:
            shapes = {name: (rows, *tensor.shape[1:]) for name, tensor in like.items()}
            sizes = {name: math.prod(shapes[name]) * tensor.element_size() for name, tensor in like.items()}
            order = sorted(
                like, key=lambda name: (-like[name].element_size(), name)
            )  # the widest types come first, so that all are aligned
            ends = dict(zip(order, itertools.accumulate(sizes[name] for name in order), strict=True))
            header: dict[str, Any] = {"__metadata__": {"graft": json.dumps({**note, "sha256": PLACE})}}
            for name in order:
                span = [ends[name] - sizes[name], ends[name]]
                header[name] = {"dtype": _TYPES[like[name].dtype], "shape": shapes[name], "data_offsets": span}
            text = json.dumps(header).encode()
            text += b" " * (-len(text) % 8)
            start = 8 + len(text)
            with open(temporary, "wb") as file:
                file.write(len(text).to_bytes(8, "little") + text)
                _reserve(file.fileno(), start + max(ends.values(), default=0))
            whole = torch.from_file(
                str(temporary), shared=True, size=start + max(ends.values(), default=0), dtype=torch.uint8
            )
            place.append(text.index(PLACE.encode()) + 8)
            made.update(
                {
                    name: whole[start + ends[name] - sizes[name] : start + ends[name]]
                    .view(like[name].dtype)
                    .reshape(shapes[name])
                    for name in order
                }
            )
            return made

        yield mapped
        if not place:
            raise GraftError(f"there is nothing to write to {path}")
        with open(temporary, "r+b") as file:  # the mapped tensors and the file share the same pages
            file.seek(place[0])
            file.write(_seal(made, note).encode())


PLACE = "0" * 64  # placeholder of the checksum


def _reserve(file: int, size: int) -> None:
    """Reserve disk space for a file: a full disk under a mapped file would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of tensor types in safetensors files."""


def load_state_dict(path: "str | Path") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a network and its metadata, which is empty for a foreign file.

    The file is a safetensors file, or a torch file (``.pt``, ``.pth``, ``.ckpt``, ``.bin``) of tensors and plain
    values. A torch file holds a state dict, a state dict under ``state_dict`` (Lightning), or several state dicts by
    name (``model``, ``ema``). In the last case the name of the state dict becomes a prefix of the tensor names. No
    other object is unpickled.

    Raises:
        GraftError: The file is missing, truncated, of another kind, or holds other objects.
    """
    path = Path(path)
    if path.suffix.lower() in (".pt", ".pth", ".ckpt", ".bin"):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises a dozen kinds
            named = re.search(r"(?:GLOBAL |global |class )'?([A-Za-z_][\w.]*\.[\w.]+)", str(error))
            if isinstance(error, pickle.UnpicklingError) and named is not None:
                raise GraftError(
                    f"{path} holds a Python object ({named[1].rstrip('.')}), which could run code and is not loaded: "
                    "save the network's state dict alone, torch.save(network.state_dict(), FILE)"
                ) from None
            raise GraftError(f"{path} is no file of tensors, or is truncated ({type(error).__name__})") from None
        found = _state_dict(content)
        if not found:
            raise GraftError(f"{path} holds no state dict: save the network's, torch.save(network.state_dict(), FILE)")
        return {f"backbone/{name}": tensor for name, tensor in found.items()}, {}
    try:
        return read_tensors(path)
    except ForeignError:
        with safe_open(path, framework="pt") as file:
            return {f"backbone/{name}": file.get_tensor(name) for name in file.keys()}, {}


def _state_dict(content: Any) -> dict[str, Tensor]:
    """Return the tensors in the content of a torch file, by name."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    out: dict[str, Tensor] = {}
    for name, value in content.items() if isinstance(content, dict) else ():
        inner = {"": value} if isinstance(value, Tensor) else value if isinstance(value, dict) else {}
        for key, tensor in inner.items():
            if isinstance(tensor, Tensor) and isinstance(name, str) and isinstance(key, str):
                out[f"{name}.{key}" if key else name] = tensor
    return out


def sha256(path: "str | Path") -> str:
    """Return the SHA-256 checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def list_files(root: Path, suffix: str, keep: Callable[[Path], bool] = lambda path: True) -> list[str]:
    """Return the sorted paths, relative to ``root``, of all files with a suffix below it."""
    return sorted(str(path.relative_to(root)) for path in root.rglob(f"*{suffix}") if keep(path))


def hash_tensors(tensors: dict[str, Tensor]) -> str:
    """Return a hash of the names and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(_bytes(tensors[name]))
    return digest.hexdigest()


def _seal(tensors: dict[str, Tensor], about: dict[str, Any]) -> str:
    """Return the checksum of a file: names, types, shapes and values of tensors, and metadata."""
    digest = hashlib.sha256(_hash_of_json(about).encode())
    for name in sorted(tensors):
        digest.update(repr((name, str(tensors[name].dtype), tuple(tensors[name].shape))).encode())
        digest.update(_bytes(tensors[name]))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
