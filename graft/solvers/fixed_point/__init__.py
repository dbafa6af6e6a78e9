"""Solvers of x = g(x) for each sample of a batch, with which steps are inverted."""

from graft.solvers.fixed_point.anderson import Anderson
from graft.solvers.fixed_point.base import FixedPointSolver, Solution
from graft.solvers.fixed_point.newton import Newton

__all__ = ["Anderson", "FixedPointSolver", "Newton", "Solution"]
