"""Solvers: how a step along the clock is made of the network's outputs, and the map that undoes it."""

from graft.solvers.base import Solver
from graft.solvers.euler import Euler
from graft.solvers.second_order import Heun, Midpoint, RungeKutta2

__all__ = ["Euler", "Heun", "Midpoint", "RungeKutta2", "Solver"]
