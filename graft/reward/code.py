"""Descriptions of Python objects as JSON, equal for objects that compute the same."""

import builtins
import functools
import importlib.machinery
import os
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import numpy as np
from torch import Tensor

from graft.io.checksum import checksum
from graft.io.fingerprint import fingerprint, source_hash

VALUES = (type(None), bool, int, float, complex, str, bytes, type(...))
BLIND = {"eval", "exec", "globals", "locals", "vars", "open", "__import__", "input"}
"""Built-in functions with effects that bytecode does not show."""
SKIPPED = {
    *("__dict__", "__weakref__", "__doc__", "__module__", "__abstractmethods__", "_abc_impl", "__annotations__"),
    *("__firstlineno__", "__static_attributes__", "__annotate_func__", "__annotations_cache__", "__parameters__"),
}


class _Unknown(Exception):
    """A part has content that cannot be read."""


def describe_code(value: Any) -> Any:
    """Return a description of an object in JSON's types; None if there is none.

    A function is its bytecode with constants, defaults, closure and the global names that it uses; an object that a
    fresh interpreter can import is its name with the hash of its file; an instance is its class with its whole state.

    Args:
        value: A callable, or a value that a callable depends on.
    """
    try:
        return _of(value, ())
    except Exception:  # the object's own properties and comparisons may raise
        return None


def importable(value: Any) -> "str | None":
    """Return the dotted path by which a fresh interpreter imports this very object, or None."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or not name.isidentifier():
        return None
    here = sys.modules.get(module)
    if module in ("__main__", "__mp_main__") or here is None or getattr(here, name, None) is not value:
        return None
    spec = _spec(module)
    if spec is None:
        return None
    ours, theirs = getattr(here, "__file__", None), spec.origin if spec.has_location else None
    same = ours == theirs or (ours is not None and theirs is not None and _real(ours) == _real(theirs))
    return f"{module}.{name}" if same else None


def _real(path: str) -> str:
    return os.path.realpath(path)


def _spec(module: str) -> "importlib.machinery.ModuleSpec | None":
    """Return the spec of a module by the import system, without regard to imported modules."""
    path, spec, names = None, None, module.split(".")
    for i in range(len(names)):
        name = ".".join(names[: i + 1])
        found = (finder.find_spec(name, path) for finder in sys.meta_path if hasattr(finder, "find_spec"))
        spec = next((each for each in found if each is not None), None)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


def _of(value: Any, inside: tuple[int, ...]) -> Any:
    kind = type(value)
    if kind in VALUES:
        return [kind.__name__, repr(value)]
    if id(value) in inside:
        return {"level": inside.index(id(value))}
    inside = (*inside, id(value))
    if kind in (list, tuple):
        return {kind.__name__: [_of(each, inside) for each in value]}
    if kind in (set, frozenset):
        return {kind.__name__: sorted((_of(each, inside) for each in value), key=repr)}
    if kind in (dict, OrderedDict):
        return {"dict": [[_of(key, inside), _of(each, inside)] for key, each in value.items()]}
    if isinstance(value, Tensor):
        return {"tensor": checksum(value)}
    if kind is np.ndarray or isinstance(value, np.generic):
        return _numbers(np.asarray(value))
    if isinstance(value, types.ModuleType):
        return {"module": value.__name__, "version": str(getattr(value, "__version__", "")), "file": _file(value)}
    if (path := importable(value)) is not None:
        return {"name": path, "file": source_hash(value)}
    if isinstance(value, types.FunctionType):
        return _function(value, inside)
    if isinstance(value, types.BuiltinFunctionType) and isinstance(value.__self__, types.ModuleType | None):
        return {"builtin": f"{value.__module__}.{value.__qualname__}"}
    if isinstance(value, types.MethodType):
        return {"method": _of(value.__func__, inside), "of": _of(value.__self__, inside)}
    if isinstance(value, functools.partial):
        return {"partial": [_of(part, inside) for part in (value.func, value.args, value.keywords, vars(value))]}
    if isinstance(value, staticmethod | classmethod):
        return {kind.__name__: _of(value.__func__, inside)}
    if kind is property:
        return {"property": [_of(each, inside) for each in (value.fget, value.fset, value.fdel)]}
    if isinstance(value, type):
        bases = [_of(base, inside) for base in value.__bases__ if base is not object]
        own = {name: _of(each, inside) for name, each in vars(value).items() if name not in SKIPPED}
        return {"class": value.__qualname__, "bases": bases, "own": own}
    return _instance(value, inside)


def _instance(value: Any, inside: tuple[int, ...]) -> Any:
    if callable(getattr(type(value), "identity", None)):  # the object describes itself
        return _whole(fingerprint(value))
    reduced = value.__reduce_ex__(4)  # raises TypeError if a part of the state is not accessible
    if not isinstance(reduced, tuple):
        raise _Unknown
    how, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
    content = how, arguments, state, list(items or ()), list(pairs or ())
    return {"instance": [_of(part, inside) for part in content]}


def _whole(found: Any) -> Any:
    if unidentified(found):
        raise _Unknown
    return found


def unidentified(description: Any) -> bool:
    """Return True if a description has a part that cannot be identified."""
    if isinstance(description, dict):
        return "unidentified" in description or any(map(unidentified, description.values()))
    return isinstance(description, list) and any(map(unidentified, description))


def _numbers(array: Any) -> Any:
    if array.dtype.hasobject:
        raise _Unknown
    return {"array": checksum(array)}


def _file(module: types.ModuleType) -> "str | None":
    return source_hash(module) if getattr(module, "__file__", None) else None


def _function(function: types.FunctionType, inside: tuple[int, ...]) -> Any:
    code = function.__code__
    names = {name for each in _codes(code) for name in each.co_names}
    if unseen := (names & BLIND) - function.__globals__.keys():
        raise _Unknown(unseen)
    used = {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    extra = {name: each for name, each in vars(function).items() if name != "__wrapped__"}
    unknown = {name for name in names if name not in used and hasattr(builtins, name)}
    return {
        "code": _code(code, inside),
        "defaults": _of(function.__defaults__, inside),
        "keywords": _of(function.__kwdefaults__, inside),
        "closure": [_of(cell, inside) for cell in cells],
        "globals": {name: _of(each, inside) for name, each in used.items()},
        "builtins": sorted(unknown),
        "attributes": _of(extra, inside),
    }


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def _code(code: types.CodeType, inside: tuple[int, ...]) -> Any:
    constants = [
        _code(each, inside) if isinstance(each, types.CodeType) else _of(each, inside) for each in code.co_consts
    ]
    shape = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return [checksum(code.co_code), constants, list(shape), [list(each) for each in names]]
