"""What readers give: layouts as they stand in a file, and what of them cannot be used."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Element = tuple["str | int", Sequence[float]]
"""Class name, or its position among the names; left, top, right, bottom as fractions of the page."""


@dataclass(frozen=True)
class Unusable:
    """An element or a layout that cannot be used.

    Attributes:
        why: Reason, in the same words for all of a kind; what follows a colon is about this one alone.
        name: Where it stands, such as ``annotation 37``.
        layout: It is a whole layout.
        faulty: It is damaged. False for what a sound file may hold, such as annotations of crowds.
    """

    why: str
    name: str
    layout: bool = False
    faulty: bool = True


@dataclass
class Record:
    """One layout of a file.

    Attributes:
        name: Where it stands, such as ``image 7`` or ``line 12``.
        elements: Its elements, usable or not.
    """

    name: str
    elements: "list[Element | Unusable]" = field(default_factory=list)


def numbers(value: Any, count: int) -> "list[float] | None":
    """Return ``count`` finite numbers of a parsed JSON list, or None if ``value`` is anything else."""
    if not isinstance(value, list | tuple) or len(value) != count or any(isinstance(each, bool) for each in value):
        return None
    try:
        found = [float(each) for each in value]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if all(map(math.isfinite, found)) else None
