"""Anderson acceleration: the next guess is mixed from former ones, so that their linearised residual is least."""

import torch
from torch import Tensor

from graft.inversion.base import FixedPointSolver, SolverState


class Anderson(FixedPointSolver):
    """Anderson acceleration (Walker & Ni 2011, algorithm AA): no more than plain iteration costs, and mostly faster.

    Args:
        tolerance: As of `Method`.
        iterations: As of `Method`.
        memory: Number of former residuals that the next guess is mixed from.
    """

    def __init__(self, tolerance: "float | None" = None, iterations: int = 200, memory: int = 5) -> None:
        super().__init__(tolerance, iterations)
        self.memory = memory

    def solve(self, search: SolverState) -> None:
        """See `Method.solve`."""
        x = search.best.clone()
        guesses: list[Tensor] = []
        residuals: list[Tensor] = []
        rows = search.all
        for _ in range(self.iterations):
            residual = search.evaluate(x, rows)
            # a sample whose guess led to NaN or out of range has its best guess in its place
            broken = ~torch.isfinite(4 * residual.square().sum(1, keepdim=True))
            held = search.residual[rows].isfinite()
            known = torch.where(held, search.residual[rows], torch.zeros_like(residual))
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
    """The mixture of the former guesses whose linearised residual is least, moved on by that residual."""
    d_residual = torch.stack([r - residuals[-1] for r in residuals[:-1]], -1)  # (B, D, m)
    d_guess = torch.stack([g - guesses[-1] for g in guesses[:-1]], -1)
    gram = d_residual.mT @ d_residual
    ridge = 1e-10 * gram.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None] + torch.finfo(gram.dtype).tiny
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    weights = torch.linalg.lstsq(gram + ridge * eye, -(d_residual.mT @ residuals[-1][..., None])).solution
    mixed: Tensor = guesses[-1] + residuals[-1] + ((d_guess + d_residual) @ weights)[..., 0]
    return mixed
