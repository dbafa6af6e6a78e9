"""Fingerprints: objects as JSON and as hashes, so that runs can share draws and scores."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from graft.io.checksum import checksum, file_checksum


def fingerprint(value: Any) -> Any:
    """Return a description of a value in JSON types, equal for equal values in every process.

    - An object is described by its class and its public attributes.
    - A network is described by its class, its plain attributes and its submodules, without weights.
    - A function or class is described by its name and the hash of its source file.
    - An object with a method ``identity`` is described by the result of the method.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Tensor) or (isinstance(value, np.ndarray) and not value.dtype.hasobject):
        return checksum(value)
    if isinstance(value, Mapping):
        return {str(k): fingerprint(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        parts = [fingerprint(v) for v in value]
        return sorted(parts, key=repr) if isinstance(value, set | frozenset) else parts
    if inspect.isroutine(value) or inspect.isclass(value):
        return {"name": f"{value.__module__}.{value.__qualname__}", "file": source_hash(value)}
    own = getattr(type(value), "identity", None)
    if own is not None:
        return own(value)
    kind = type(value)
    if any(base.__name__ == "FSDPModule" for base in kind.__bases__):  # sharding makes a new class for each network
        kind = kind.__bases__[1]
    return {"class": f"{kind.__module__}.{kind.__qualname__}", **public_attributes(value)}


def public_attributes(value: Any) -> dict[str, Any]:
    """Return the fingerprints of the public attributes and submodules of an object, by name."""
    found = {name: fingerprint(v) for name, v in getattr(value, "__dict__", {}).items() if not name.startswith("_")}
    if isinstance(value, nn.Module):
        found.pop("training", None)
        found |= {name: fingerprint(part) for name, part in value.named_children()}
    return found


def source_hash(value: Any) -> "str | None":
    """Return the hash of the source file of a class or function; None without a file."""
    try:
        path = inspect.getsourcefile(value)
        return file_checksum(path) if path else None
    except (TypeError, OSError):
        return None


def fingerprint_hash(value: Any) -> str:
    """Return 96 bits of the SHA-256 of the `fingerprint`, in hexadecimal."""
    return checksum(json.dumps(fingerprint(value), sort_keys=True))[:24]
