"""Checksums of files, of tensors and of JSON."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def sha256(path: "str | Path") -> str:
    """Return the SHA-256 checksum of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hash_tensors(tensors: dict[str, Tensor]) -> str:
    """Return a hash of the names and values of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(_bytes(tensors[name]))
    return digest.hexdigest()


def hash_json(content: Any) -> str:
    """Return a hash of a JSON value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def seal(tensors: dict[str, Tensor], about: dict[str, Any]) -> str:
    """Return the checksum of a file: names, types, shapes and values of tensors, and metadata."""
    digest = hashlib.sha256(hash_json(about).encode())
    for name in sorted(tensors):
        digest.update(repr((name, str(tensors[name].dtype), tuple(tensors[name].shape))).encode())
        digest.update(_bytes(tensors[name]))
    return digest.hexdigest()


def _bytes(tensor: Tensor) -> Any:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
