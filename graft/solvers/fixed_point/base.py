"""The interface of methods that solve x = g(x), with an outcome for each sample."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from graft.core import limits
from graft.core.recorded_arguments import Described
from graft.core.state import State, flatten_state, unflatten_state

DERIVATIVE = 2
"""Cost in evaluations of a function and its derivative along a direction, in forward mode."""

FixedPointMap: TypeAlias = Callable[[State, Tensor], State]
"""(guesses (K, ...), their rows in the batch (K,)) -> images (K, ...); the samples are independent."""


@dataclass
class Solution:
    """The outcome of each sample of a batch.

    Attributes:
        state: Best guess, (B, ...).
        residual: Largest |g(x) − x| over |x| + 1 of the best guess, (B,).
        solved: True where the residual is within the tolerance, (B,) bool.
        calls: Evaluations of g, (B,); an evaluation with its derivative along a direction counts as `DERIVATIVE`.
    """

    state: State
    residual: Tensor
    solved: Tensor
    calls: Tensor


class FixedPointSolver(Described, ABC):
    """A method that solves x = g(x) for each sample; solved samples are not computed further.

    Args:
        tolerance: Largest |g(x) − x| over |x| + 1 that counts as solved; 100 rounding units if ``null``.
        iterations: Largest number of iterations.

    Raises:
        GraftError: ``iterations`` is below 1.
    """

    def __init__(self, tolerance: "float | None" = None, iterations: int = 200) -> None:
        limits.check("`iterations` of the fixed-point solver", iterations, 1)
        self.tolerance, self.iterations = tolerance, iterations

    def __call__(self, function: FixedPointMap, start: State) -> Solution:
        """Return the solution that is found from ``start`` (B, ...)."""
        search = SolverState(function, start, self.tolerance)
        self.solve(search)
        return search.solution()

    @abstractmethod
    def solve(self, search: "SolverState") -> None:
        """Improve the guesses until every sample is solved or the iterations are used up."""


class SolverState:
    """The best guess of each sample so far.

    Args:
        function: Map g.
        start: First guesses, (B, ...).
        tolerance: Largest |g(x) − x| over |x| + 1 that counts as solved; 100 rounding units if None.

    Attributes:
        best: Best guess of each sample, (B, D).
        residual: g(x) − x of the best guess, (B, D).
        error: Largest |g(x) − x| over |x| + 1 of the best guess, (B,).
        calls: Evaluations of g, (B,).
        all: Rows of the batch, (B,).
        differentiable: False once g has shown that it has no derivative in forward mode.
    """

    def __init__(self, function: FixedPointMap, start: State, tolerance: "float | None") -> None:
        self.function, self.layout = function, start
        self.best = flatten_state(start)
        self.tolerance = 100 * torch.finfo(self.best.dtype).eps if tolerance is None else tolerance
        self.residual = torch.full_like(self.best, torch.inf)
        self.error = self.best.new_full((len(self.best),), torch.inf)
        self.calls = torch.zeros(len(self.best), dtype=torch.long, device=self.best.device)
        self.all = torch.arange(len(self.best), device=self.best.device)
        self.differentiable = True

    @property
    def unsolved(self) -> Tensor:
        """Return the (K,) rows that are not solved."""
        return self.all[~(self.error <= self.tolerance)]

    def apply_map(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return g(x), (K, D), of guesses (K, D) for ``rows`` (K,)."""
        return flatten_state(self.function(unflatten_state(x, self.layout), rows))

    def evaluate(self, x: Tensor, rows: Tensor) -> Tensor:
        """Return g(x) − x, (K, D), and keep the best guesses."""
        residual = self.apply_map(x, rows) - x
        self.calls[rows] += 1
        error = residual.abs().amax(1) / (x.abs().amax(1) + 1)
        chosen = error < self.error[rows]  # NaN is never better
        better = rows[chosen]
        self.best[better], self.residual[better], self.error[better] = x[chosen], residual[chosen], error[chosen]
        return residual

    def solution(self) -> Solution:
        """Return the best guesses as a `Solution`."""
        return Solution(unflatten_state(self.best, self.layout), self.error, self.error <= self.tolerance, self.calls)
