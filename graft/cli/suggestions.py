"""The setting that a misspelt flag may mean."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable

from jsonargparse import ArgumentParser

CLOSE = 0.75
"""Least similarity of a name to the one that is suggested."""


def explain_unknown_setting(message: str, parser: "ArgumentParser") -> "str | None":
    """Return a sentence about the unknown flag that a parser's error names; None for other errors.

    Args:
        message: Message of the error.
        parser: The parser; it knows the flags.
    """
    if match := re.search(r"[Uu]nrecognized arguments: (-\S+)", message):
        flag = match[1].partition("=")[0]
        flags = [name for name in parser._option_string_actions if not name.endswith(("help", "+"))]
        return f"there is no setting {flag}.{_question(flag, flags)}"
    if match := re.search(r"Option '(\w+)' is not accepted(?: by ([\w.]+))?", message):
        return None if match[2] is None else _in_class(match[1], match[2])
    return None


def _in_class(name: str, path: str) -> "str | None":
    where, _, kind = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(where), kind)
    except (ImportError, AttributeError):
        return None
    return f"{path} has no setting {name}.{_question(name, _arguments(found))}"


def _question(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(names), 1, CLOSE)
    return f" Did you mean {close[0]}?" if close else " The flag --help lists the settings."


def _arguments(kind: type) -> list[str]:
    """Return the names of the arguments of a constructor, with those of its bases."""
    constructors = (vars(base)["__init__"] for base in kind.__mro__[:-1] if "__init__" in vars(base))
    return [name for each in constructors for name in inspect.signature(each).parameters]
