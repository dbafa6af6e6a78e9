"""Tensor files: safetensors with metadata, a format number and a checksum in the header."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graft.errors import GraftError
from graft.io.atomic import atomic_write, mode_of_new_file
from graft.io.format import check_format, with_checksum, without_checksum
from graft.io.json_files import parse_json


class ForeignError(GraftError):
    """A file was not written by graft."""


def write_tensors(path: "str | Path", tensors: dict[str, Tensor], about: "dict[str, Any] | None" = None) -> None:
    """Write a safetensors file atomically, with metadata, format and checksum in its header."""
    with atomic_write(path) as temporary:
        plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        mode = mode_of_new_file(temporary)
        save_file(plain, temporary, {"graft": json.dumps(with_checksum(about or {}, plain))})
        temporary.chmod(mode)


@contextmanager
def _opened(path: "str | Path") -> "Iterator[tuple[Any, dict[str, Any]]]":
    """Yield (open safetensors file, metadata) of a file that `write_tensors` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            about = parse_json((file.metadata() or {}).get("graft", "null"))
            if not isinstance(about, dict):
                raise ForeignError(f"{path} is a safetensors file, but graft did not write it")
            check_format(path, about)
            yield file, about
    except FileNotFoundError:
        raise GraftError(f"there is no file {path}") from None
    except GraftError:
        raise
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise GraftError(f"{path} is not a safetensors file or is truncated ({error})") from None


def read_tensors(path: "str | Path") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the metadata of a file that `write_tensors` wrote.

    The tensors are memory-mapped: after the check of the checksum, unused tensors take no memory.

    Raises:
        GraftError: The file is missing, truncated, changed, or of another kind.
    """
    with _opened(path) as (file, about):
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    return tensors, without_checksum(path, about, tensors, "give another file")


def read_metadata(path: "str | Path") -> dict[str, Any]:
    """Return the metadata of a file that `write_tensors` wrote, without reading tensors.

    Raises:
        GraftError: The file is missing, truncated or of another kind.
    """
    with _opened(path) as (_, about):
        return about
