"""Records of readers: layouts as they stand in a file, and their invalid parts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Element = tuple["str | int", Sequence[float]]
"""Class name or its position among the names; left, top, right, bottom as fractions of the page."""


@dataclass(frozen=True)
class Unusable:
    """An invalid element or layout.

    Attributes:
        why: Reason, in the same words for all of a kind; the text after a colon concerns this one alone.
        name: Place in the source, such as ``annotation 37``.
        layout: True for a whole layout.
        faulty: True if it is damaged, False if a sound file may hold it, such as annotations of crowds.
    """

    why: str
    name: str
    layout: bool = False
    faulty: bool = True


@dataclass
class LayoutRecord:
    """One layout of a file.

    Attributes:
        name: Place in the source, such as ``image 7`` or ``line 12``.
        elements: Elements, usable or not.
    """

    name: str
    elements: "list[Element | Unusable]" = field(default_factory=list)


def numbers(value: Any, count: int) -> "list[float] | None":
    """Return ``count`` finite numbers of a parsed JSON list, or None for any other value."""
    if not isinstance(value, list | tuple) or len(value) != count or any(isinstance(each, bool) for each in value):
        return None
    try:
        found = [float(each) for each in value]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if all(map(math.isfinite, found)) else None
