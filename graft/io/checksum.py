"""Checksums: the SHA-256 of a file, or of a value with all tensors in it, in hexadecimal."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def file_checksum(path: "str | Path") -> str:
    """Return the SHA-256 of the bytes of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def checksum(value: Any) -> str:
    """Return the SHA-256 of a tensor, an array, a plain value, or a mapping or list of them.

    Types, shapes and positions count; the order of a mapping does not.
    """
    digest = hashlib.sha256()
    _feed(value, digest.update)
    return digest.hexdigest()


def _feed(value: Any, update: Callable[[Any], object]) -> None:
    """Call ``update`` with the bytes of a value and of its parts, each with its type and size."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        update(f"tensor {plain.dtype} {tuple(plain.shape)} ".encode())
        update(plain.reshape(-1).view(torch.uint8).numpy())
    elif isinstance(value, np.ndarray):
        update(f"array {value.dtype} {value.shape} ".encode())
        update(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
    elif isinstance(value, Mapping):
        update(f"mapping {len(value)} ".encode())
        for key in sorted(value, key=repr):
            update(f"{key!r} ".encode())
            _feed(value[key], update)
    elif isinstance(value, list | tuple):
        update(f"list {len(value)} ".encode())
        for each in value:
            _feed(each, update)
    else:
        update(f"{value!r} ".encode())
