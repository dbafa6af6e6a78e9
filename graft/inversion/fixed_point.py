"""Plain iteration, x ← g(x): cheap where g contracts well, as it does for small steps."""

from graft.inversion.base import FixedPointSolver, SolverState


class FixedPoint(FixedPointSolver):
    """X ← g(x), which converges as the Lipschitz constant of g to the power of the iterations, below 1 for sure."""

    def solve(self, search: SolverState) -> None:
        """See `Method.solve`."""
        x, residual, rows = search.best.clone(), search.evaluate(search.best, search.all), search.unsolved
        x, residual = x[rows], residual[rows]
        for _ in range(self.iterations - 1):
            if not len(rows):
                return
            x = x + residual
            residual = search.evaluate(x, rows)
            keep = (~(search.error[rows] <= search.tolerance)) & residual.isfinite().all(1)  # what broke stays broken
            x, residual, rows = x[keep], residual[keep], rows[keep]
