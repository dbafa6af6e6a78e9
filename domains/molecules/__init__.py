"""Small molecules in 3-D, with or without explicit hydrogens."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from domains.molecules.module import Molecules

__all__ = ["Molecules"]


def __getattr__(name: str) -> Any:
    """Import the module when it is asked for: a process that scores needs no Lightning (PEP 562)."""
    if name != "Molecules":
        raise AttributeError(f"module 'domains.molecules' has no attribute {name!r}")
    from domains.molecules.module import Molecules

    return Molecules
