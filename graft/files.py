"""Files: found by name, written whole or not at all, and no pickle among them."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

import graft
from graft.errors import GraftError


class ForeignError(GraftError):
    """A file that another program wrote."""


def shipped() -> list[Path]:
    """Every folder that holds a part of the ``domains`` namespace: this package's and third parties'."""
    spec = importlib.util.find_spec("domains")  # looked up, not imported: the core knows no domain
    return [Path(part).parent for part in spec.submodule_search_locations or ()] if spec else []


def roots() -> list[Path]:
    """Folders in which names are looked up: the current one, its configs, the installed configs, what is `shipped`."""
    package = Path(graft.__file__).parent
    found: list[Path] = []
    for root in [Path.cwd(), Path.cwd() / "configs", package / "configs", package.parent / "configs", *shipped()]:
        if root.is_dir() and root not in found:
            found.append(root)
    return found


def locate(name: "str | Path") -> Path:
    """The file of that name: as a path, or below one of the `roots`.

    Raises:
        GraftError: There is none.
    """
    path = Path(name)
    candidates = [path] if path.is_absolute() else [root / path for root in roots()]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise GraftError(f"there is no file {str(name)!r}, neither here nor in the installed packages")


@contextmanager
def atomic(path: "str | Path") -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well.

    Raises:
        GraftError: The folder cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        if isinstance(error, OSError) and error.errno is None:
            raise
        raise GraftError(f"cannot write {path} ({error}): free the disk or choose another folder") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: "str | Path", text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: "str | Path", data: bytes) -> None:
    """Write a binary file atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: "str | Path", value: Any) -> None:
    """Write JSON atomically; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def write_tensors(path: "str | Path", tensors: dict[str, Tensor], about: "dict[str, Any] | None" = None) -> None:
    """Write a safetensors file atomically, with ``about`` as JSON in its header."""
    with atomic(path) as temporary:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(plain, temporary, {"graft": json.dumps(about or {})})
        temporary.chmod(0o644)  # safetensors makes files that others may not read


def read_tensors(path: "str | Path") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the ``about`` of a file that `write_tensors` wrote.

    Raises:
        GraftError: It is missing, truncated or another kind of file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {}).get("graft", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise GraftError(f"there is no file {path}") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise GraftError(f"{path} is no safetensors file or is truncated ({error})") from None
    if not isinstance(about, dict):
        raise ForeignError(f"{path} is a safetensors file, but graft did not write it")
    return tensors, about


def read_network(path: "str | Path") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a network and its ``about``, which is empty for a file that another program wrote.

    Takes safetensors files, and torch files with a state dict (``.pt``, ``.pth``, ``.ckpt``, ``.bin``) of tensors only.

    Raises:
        GraftError: It is missing, truncated or another kind of file.
    """
    path = Path(path)
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin"):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises a dozen kinds
            raise GraftError(f"{path} is no file of tensors, or is truncated ({type(error).__name__})") from None
        content = content.get("state_dict", content) if isinstance(content, dict) else {}
        return {f"backbone/{name}": t for name, t in content.items() if isinstance(t, Tensor)}, {}
    try:
        return read_tensors(path)
    except ForeignError:
        with safe_open(path, framework="pt") as file:
            return {f"backbone/{name}": file.get_tensor(name) for name in file.keys()}, {}


def sha256(path: "str | Path") -> str:
    """The file's hash."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def below(root: Path, suffix: str, keep: Callable[[Path], bool] = lambda path: True) -> list[str]:
    """Names relative to ``root`` of the files with that suffix below it."""
    return sorted(str(path.relative_to(root)) for path in root.rglob(f"*{suffix}") if keep(path))


def in_memory(tensors: dict[str, Tensor]) -> str:
    """A hash of tensors' names and values."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
