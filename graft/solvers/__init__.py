"""Solvers: one step of a sampler from the network's outputs, and its inversion."""

from graft.solvers.base import BoundModel, Solver
from graft.solvers.euler import Euler
from graft.solvers.second_order import Heun, Midpoint, RungeKutta2

__all__ = ["BoundModel", "Euler", "Heun", "Midpoint", "RungeKutta2", "Solver"]
