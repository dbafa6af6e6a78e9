"""Inversion: solving x = g(x) for each sample of a batch, and carrying data back through a frozen flow."""

from graft.inversion.anderson import Anderson
from graft.inversion.base import FixedPointSolver, InversionError, Solution
from graft.inversion.fixed_point import FixedPoint
from graft.inversion.newton import Newton

__all__ = ["Anderson", "FixedPoint", "FixedPointSolver", "InversionError", "Newton", "Solution"]
