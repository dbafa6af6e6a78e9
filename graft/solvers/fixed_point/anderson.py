"""Anderson acceleration: a guess is a mixture of former ones with the least linear residual."""

import torch
from torch import Tensor
from typing_extensions import override

from graft.solvers.fixed_point.base import FixedPointSolver, SolverState


class Anderson(FixedPointSolver):
    """Anderson acceleration (Walker & Ni 2011, algorithm AA), one evaluation per iteration.

    With ``memory=1`` it is plain iteration, x ← g(x), which converges where g contracts.

    Args:
        tolerance: Largest |g(x) − x| over |x| + 1 that counts as solved; 100 rounding units if ``null``.
        iterations: Largest number of iterations.
        memory: Number of guesses from which the next guess is mixed, the last one included.

    Raises:
        GraftError: ``iterations`` is below 1.
    """

    def __init__(self, tolerance: "float | None" = None, iterations: int = 200, memory: int = 5) -> None:
        super().__init__(tolerance, iterations)
        self.memory = memory

    @override
    def solve(self, search: SolverState) -> None:
        x = search.best.clone()
        guesses: list[Tensor] = []
        residuals: list[Tensor] = []
        rows = search.all
        for _ in range(self.iterations):
            residual = search.evaluate(x, rows)
            # a guess that led to NaN or overflow is replaced by the sample's best guess
            broken = ~torch.isfinite(4 * residual.square().sum(1, keepdim=True))
            is_known = search.residual[rows].isfinite()
            known = torch.where(is_known, search.residual[rows], torch.zeros_like(residual))
            x, residual = torch.where(broken, search.best[rows], x), torch.where(broken, known, residual)
            guesses, residuals = [*guesses, x][-self.memory :], [*residuals, residual][-self.memory :]
            keep = ~(search.error[rows] <= search.tolerance)
            rows = rows[keep]
            if not len(rows):
                return
            guesses, residuals = [g[keep] for g in guesses], [r[keep] for r in residuals]
            x = guesses[-1] + residuals[-1] if len(guesses) == 1 else _mix(guesses, residuals)
            x = torch.where(torch.isfinite(x), x, search.best[rows] + known[keep])


def _mix(guesses: list[Tensor], residuals: list[Tensor]) -> Tensor:
    """Return (B, D) the mixture with the least linear residual, moved on by that residual."""
    d_residual = torch.stack([r - residuals[-1] for r in residuals[:-1]], -1)  # (B, D, m)
    d_guess = torch.stack([g - guesses[-1] for g in guesses[:-1]], -1)
    gram = d_residual.mT @ d_residual
    ridge = 1e-10 * gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] + torch.finfo(gram.dtype).tiny
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.lstsq(gram + ridge * eye, -(d_residual.mT @ residuals[-1][..., None])).solution
    mixed: Tensor = guesses[-1] + residuals[-1] + ((d_guess + d_residual) @ weights)[..., 0]
    return mixed
