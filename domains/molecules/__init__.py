"""Small molecules in 3-D, with or without explicit hydrogens."""

from domains.molecules.module import Molecules

__all__ = ["Molecules"]
