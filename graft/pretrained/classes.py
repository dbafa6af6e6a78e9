"""Classes by their dotted paths."""

import importlib
from typing import Any

from graft.domain import Domain


def user_class(ours: "str | None", theirs: Any) -> "tuple[type[Domain] | None, bool]":
    """Return (class that the user names, True if it is the class of the weights or a subclass).

    The class is None if the user names none.
    """
    if ours is None:
        return None, True
    if "." not in ours:  # the parser finds classes by their last names
        return None, str(theirs).rpartition(".")[2] == ours
    try:
        kind = import_name(ours)
    except Exception:  # the parser has a better message
        return None, False
    same = isinstance(kind, type) and any(theirs in dotted_names(each) for each in kind.__mro__)
    return kind, same and issubclass(kind, Domain)


def import_name(name: str) -> Any:
    """Return what a dotted path names."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def dotted_names(kind: type) -> set[str]:
    """Return the dotted paths of a class: in its module, and in packages that export it."""
    parts = kind.__module__.split(".")
    modules = [".".join(parts[: i + 1]) for i in range(len(parts))]
    found = {name for name in modules[:-1] if getattr(importlib.import_module(name), kind.__name__, None) is kind}
    return {f"{name}.{kind.__name__}" for name in {*found, kind.__module__}}
