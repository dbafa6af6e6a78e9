"""Fingerprints: objects as JSON and as hashes, so that runs can share draws and scores."""

import copyreg
import functools
import inspect
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graft.io.checksum import checksum, file_checksum


def fingerprint(value: Any) -> Any:
    """Return a description of a value in JSON types, equal for equal values in every process.

    - An object is described by its class and its public attributes.
    - A network is described by its class, its plain attributes and its submodules, without weights.
    - A function or class is described by its name and the hash of its source file.
    - An object with a method ``identity`` is described by the result of the method.
    - A value without attributes, such as a date or a regular expression, is described by what pickle keeps of it.

    A device is described by its class alone, since results do not depend on it beyond rounding.
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
    if isinstance(value, functools.partial):
        return {"partial": [fingerprint(part) for part in (value.func, value.args, value.keywords)]}
    own = getattr(type(value), "identity", None)
    if own is not None:
        return own(value)
    kind = type(value)
    if isinstance(value, Enum):
        return {"class": f"{kind.__module__}.{kind.__qualname__}", "member": value.name}
    if any(base.__name__ == "FSDPModule" for base in kind.__bases__):  # sharding makes a new class for each network
        kind = kind.__bases__[1]
    name, found = {"class": f"{kind.__module__}.{kind.__qualname__}"}, public_attributes(value)
    if found or hasattr(value, "__dict__") or isinstance(value, torch.device):
        return {**name, **found}
    return {**name, **_content(value)}


def public_attributes(value: Any) -> dict[str, Any]:
    """Return the fingerprints of the public attributes and submodules of an object, by name."""
    own = {**_slots(value), **getattr(value, "__dict__", {})}
    found = {name: fingerprint(v) for name, v in own.items() if not name.startswith("_")}
    if isinstance(value, nn.Module):
        found.pop("training", None)
        found |= {name: fingerprint(part) for name, part in value.named_children()}
    return found


def _slots(value: Any) -> dict[str, Any]:
    """Return the attributes of an object that its classes declare in ``__slots__``, by name."""
    declared = (vars(kind).get("__slots__", ()) for kind in type(value).__mro__)
    names = [name for each in declared for name in ((each,) if isinstance(each, str) else each)]
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _content(value: Any) -> dict[str, Any]:
    """Return what pickle keeps of a value without attributes.

    The result is empty for an object that is compared by identity, such as a lock or a random generator, whose state
    may change.
    """
    kind = type(value)
    if isinstance(value, bytes | bytearray | complex | np.dtype | torch.dtype):
        return {"content": repr(value)}
    if isinstance(value, np.generic):
        return {"content": repr(value.item())}
    if getattr(kind, "__eq__") is object.__eq__:  # noqa: B009
        return {}
    try:
        reduced = copyreg.dispatch_table[kind](value) if kind in copyreg.dispatch_table else value.__reduce_ex__(4)
    except Exception:  # no pickle of it
        return {}
    if isinstance(reduced, str):
        return {"content": reduced}
    _, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    return {"content": [fingerprint(part) for part in (arguments, state, list(items or ()), list(pairs or ()))]}


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
