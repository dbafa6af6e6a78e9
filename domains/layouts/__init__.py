"""Layouts: unordered sets of elements, each a class and a box on a page."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from domains.layouts.module import Layouts

__all__ = ["Layouts"]


def __getattr__(name: str) -> Any:
    """Return ``Layouts``, imported at first use (PEP 562), since scoring needs no Lightning."""
    if name != "Layouts":
        raise AttributeError(f"module 'domains.layouts' has no attribute {name!r}")
    from domains.layouts.module import Layouts

    return Layouts
