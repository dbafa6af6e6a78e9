"""Small molecules in 3-D, with or without explicit hydrogens."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from domains.molecules.module import Molecules

__all__ = ["Molecules"]


def __getattr__(name: str) -> Any:
    """Return ``Molecules``, imported at first use (PEP 562), since scoring needs no Lightning."""
    if name != "Molecules":
        raise AttributeError(f"module 'domains.molecules' has no attribute {name!r}")
    from domains.molecules.module import Molecules

    return Molecules
