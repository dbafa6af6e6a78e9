r"""Newton's method without matrices: GMRES solves (1 − g'(x)) d = g(x) − x from g'(x) v."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad
from typing_extensions import override

from graft.solvers.fixed_point.base import DERIVATIVE, FixedPointSolver, SolverState

HALVINGS = 6
"""Largest number of lengths that the line search tries, each half of the one before."""


class Newton(FixedPointSolver):
    """Newton-Krylov (Knoll & Keyes 2004) with a line search.

    It may converge where g does not contract, with more evaluations than `Anderson`. The products are derivatives in
    forward mode, or finite differences where a network has no such derivative (fused attention).

    Args:
        tolerance: Largest |g(x) − x| over |x| + 1 that counts as solved; 100 rounding units if ``null``.
        iterations: Largest number of Newton steps.
        krylov: Dimension of the space in which GMRES (Saad & Schultz 1986) solves; the dimension of the state is exact.
        forcing: Residual of the linear system, relative to the right-hand side, at which GMRES stops.

    Raises:
        GraftError: ``iterations`` is below 1.
    """

    def __init__(
        self, tolerance: "float | None" = None, iterations: int = 30, krylov: int = 16, forcing: float = 1e-2
    ) -> None:
        super().__init__(tolerance, iterations)
        self.krylov, self.forcing = krylov, forcing

    @override
    def solve(self, search: SolverState) -> None:
        search.evaluate(search.best.clone(), search.all)
        for _ in range(self.iterations):
            rows = search.unsolved
            rows = rows[search.residual[rows].isfinite().all(1)]  # NaN gives no direction
            if not len(rows):
                return
            x, residual = search.best[rows], search.residual[rows]
            step = gmres(_one_less(search, x, residual, rows), residual, self.krylov, self.forcing)
            before = search.error[rows].clone()
            share = 1.0
            for _ in range(HALVINGS):
                trying = ~(search.error[rows] < before) & step.isfinite().all(1)
                if not bool(trying.any()):
                    break
                search.evaluate(x[trying] + share * step[trying], rows[trying])
                share /= 2
            if bool((search.error[rows] >= before).all()):  # no direction lowers the error
                return


def _one_less(search: SolverState, x: Tensor, residual: Tensor, rows: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the map v ↦ v − g'(x) v of (K, D)."""

    def product(v: Tensor) -> Tensor:
        if search.differentiable:
            search.calls[rows] += DERIVATIVE
            try:
                with forward_ad.dual_level():
                    image = search.apply_map(forward_ad.make_dual(x, v), rows)  # type: ignore[no-untyped-call]
                    tangent: Tensor | None = forward_ad.unpack_dual(image).tangent  # type: ignore[no-untyped-call]
                return v if tangent is None else v - tangent
            except NotImplementedError:
                search.differentiable = False
        search.calls[rows] += 1
        size: Tensor = torch.finfo(x.dtype).eps ** 0.5 * (1 + x.norm(dim=1)) / v.norm(dim=1).clamp(min=1e-30)
        far = search.apply_map(x + size[:, None] * v, rows)
        return v - (far - (x + residual)) / size[:, None]

    return product


def gmres(product: Callable[[Tensor], Tensor], right: Tensor, krylov: int, forcing: float) -> Tensor:
    """Return the (B, D) x of least |A x − right| in the Krylov space of each sample.

    Args:
        product: Map v ↦ A v of (B, D), with a matrix A for each sample.
        right: Right-hand sides, (B, D).
        krylov: Largest dimension of the space.
        forcing: Residual relative to |right| at which the iteration stops, once all samples have reached it.
    """
    size = right.norm(dim=1)
    tiny = torch.finfo(right.dtype).tiny
    basis = [right / size.clamp(min=tiny)[:, None]]
    columns: list[Tensor] = []
    count = min(krylov, right.shape[1])
    solution = torch.zeros_like(right)
    for k in range(count):
        w = product(basis[k])
        column = right.new_zeros(len(right), count + 1)
        for i, v in enumerate(basis):  # modified Gram-Schmidt
            column[:, i] = (w * v).sum(1)
            w = w - column[:, i, None] * v
        column[:, k + 1] = w.norm(dim=1)
        columns.append(column)
        basis.append(w / column[:, k + 1].clamp(min=tiny)[:, None])
        h = torch.stack(columns, -1)[:, : k + 2]  # (B, k + 2, k + 1)
        goal = right.new_zeros(len(right), k + 2, 1)
        goal[:, 0, 0] = size
        y = torch.linalg.pinv(h) @ goal if bool(h.isfinite().all()) else torch.full_like(goal[:, :-1], torch.nan)
        left = (goal - h @ y)[..., 0].norm(dim=1)
        solution = (torch.stack(basis[:-1], -1) @ y)[..., 0]
        if bool((left <= forcing * size).all()):
            break
    return solution
