"""The setting that a misspelt flag may mean."""

import difflib
import importlib
import inspect
import re
from collections.abc import Iterable

from jsonargparse import ArgumentParser

CLOSE = 0.75
"""Least similarity of a name to the one that is suggested."""

NOT_ACCEPTED = r"Option '(\w+)' is not accepted\. Got value: Namespace\("


def explain_unknown_setting(message: str, parser: "ArgumentParser") -> "str | None":
    """Return a sentence about the unknown flag that a parser's error names; None for other errors.

    Args:
        message: Message of the error.
        parser: The parser; it knows the flags.
    """
    if match := re.search(r"(?:^([\w.]+): )?[Uu]nrecognized arguments: (-\S+)(?:.* by ([\w.]+)$)?", message):
        place, flag, path = match[1], match[2].partition("=")[0], match[3]
        if place is not None and (kind := _find_class(path)) is not None:  # of a class that the key names
            parser = type(parser)()
            parser.add_class_arguments(kind, place, fail_untyped=False)
            flag = f"--{place}.{flag.lstrip('-')}"
        return f"there is no setting {flag}.{_question(flag, _flags(parser))}"
    for pattern in (r"Option '(\w+)' is not accepted by ([\w.]+)", rf"{NOT_ACCEPTED}class_path='([\w.]+)'"):
        if (match := re.search(pattern, message)) and (kind := _find_class(match[2])) is not None:
            return f"{match[2]} has no setting {match[1]}.{_question(match[1], _arguments(kind))}"
    return None


def _flags(parser: "ArgumentParser") -> list[str]:
    return [name for name in parser._option_string_actions if name.startswith("--") and not name.endswith("+")]


def _find_class(path: "str | None") -> "type | None":
    where, _, name = (path or "").rpartition(".")
    try:
        found = getattr(importlib.import_module(where), name)
    except (ImportError, AttributeError, ValueError):
        return None
    return found if isinstance(found, type) else None


def _question(name: str, names: Iterable[str]) -> str:
    known = list(names)
    close = [each for each in known if each.startswith(name)] or difflib.get_close_matches(name, known, 1, CLOSE)
    return f" Did you mean {close[0]}?" if close else " The flag --help lists the settings."


def _arguments(kind: type) -> list[str]:
    """Return the names of the arguments of a constructor, with those of its bases."""
    constructors = (vars(base)["__init__"] for base in kind.__mro__[:-1] if "__init__" in vars(base))
    return [name for each in constructors for name in inspect.signature(each).parameters]
