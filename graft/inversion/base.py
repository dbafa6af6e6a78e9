"""What methods that solve x = g(x) have in common: each sample has its own outcome."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from graft.errors import GraftError
from graft.recorded_arguments import Described
from graft.state import State

DERIVATIVE = 2
"""Evaluations that one with its derivative along a direction costs, in forward mode: the function and its tangent."""

FixedPointMap: TypeAlias = Callable[[State, Tensor], State]
"""(guesses (K, ...), which rows of the batch they are of (K,)) -> images; it treats the samples independently."""


class InversionError(GraftError):
    """A step that cannot be inverted, or whose inverse was not found."""


@dataclass
class Solution:
    """What was found for each sample of a batch.

    Attributes:
        state: (B, ...) the best guess.
        residual: (B,) its largest |g(x) − x| over |x| + 1.
        solved: (B,) bool: the residual is within the tolerance.
        calls: (B,) evaluations of g; one with its derivative along a direction counts as `DERIVATIVE`.
    """

    state: State
    residual: Tensor
    solved: Tensor
    calls: Tensor


class FixedPointSolver(Described, ABC):
    """A method that solves x = g(x) for each sample; a sample that is solved is not computed any more.

    Args:
        tolerance: Largest |g(x) − x| over |x| + 1 that counts as solved; 100 rounding units if ``null``.
        iterations: At most so many.
    """

    def __init__(self, tolerance: "float | None" = None, iterations: int = 200) -> None:
        if iterations < 1:
            raise GraftError(f"the inversion's iterations are {iterations}, but it takes at least 1")
        self.tolerance, self.iterations = tolerance, iterations

    def __call__(self, function: FixedPointMap, start: State) -> Solution:
        """Solve from ``start`` (B, ...)."""
        search = SolverState(function, start, self.tolerance)
        self.solve(search)
        return search.solution()

    @abstractmethod
    def solve(self, search: "SolverState") -> None:
        """Look until every sample is solved or the iterations are used up."""


class SolverState:
    """The best guess of each sample so far, and which are still looked for.

    Args:
        function: g.
        start: First guesses.
        tolerance: As of `Method`.
    """

    def __init__(self, function: FixedPointMap, start: State, tolerance: "float | None") -> None:
        self.function, self.layout = function, start
        self.best = flatten_state(start)
        self.tolerance = 100 * torch.finfo(self.best.dtype).eps if tolerance is None else tolerance
        self.residual = torch.full_like(self.best, torch.inf)  # (B, D), of the best guess
        self.error = self.best.new_full((len(self.best),), torch.inf)
        self.calls = torch.zeros(len(self.best), dtype=torch.long, device=self.best.device)
        self.all = torch.arange(len(self.best), device=self.best.device)
        self.differentiable = True
        """Whether the function has derivatives in forward mode, as far as known."""

    @property
    def unsolved(self) -> Tensor:
        """(K,) the rows that are not solved."""
        return self.all[~(self.error <= self.tolerance)]

    def apply_map(self, x: Tensor, rows: Tensor) -> Tensor:
        """G(x) of guesses (K, D) for ``rows`` (K,)."""
        return flatten_state(self.function(unflatten_state(x, self.layout), rows))

    def evaluate(self, x: Tensor, rows: Tensor) -> Tensor:
        """(K, D) g(x) − x; the best guesses are kept."""
        residual = self.apply_map(x, rows) - x
        self.calls[rows] += 1
        error = residual.abs().amax(1) / (x.abs().amax(1) + 1)
        better = rows[error < self.error[rows]]  # NaN is not
        chosen = error < self.error[rows]
        self.best[better], self.residual[better], self.error[better] = x[chosen], residual[chosen], error[chosen]
        return residual

    def solution(self) -> Solution:
        """What was found."""
        return Solution(unflatten_state(self.best, self.layout), self.error, self.error <= self.tolerance, self.calls)


def flatten_state(state: State) -> Tensor:
    """(B, D) copy of a state."""
    fields = [state] if isinstance(state, Tensor) else list(state.values())
    return torch.cat([f.flatten(1) for f in fields], 1)


def unflatten_state(x: Tensor, layout: State) -> State:
    """A state like ``layout``, but for the number of samples, of (K, D)."""
    if isinstance(layout, Tensor):
        return x.reshape(len(x), *layout.shape[1:])
    parts = torch.split(x, [f[0].numel() for f in layout.values()], 1)
    return {name: part.reshape(len(x), *f.shape[1:]) for (name, f), part in zip(layout.items(), parts, strict=True)}
