r"""The integral of a log a over the CDF for a rule that ranks, and its decrease by ties.

The accepted distribution p* ∝ p a(F) has KL(p* ‖ p) = E[a log a] / E[a] − log E[a]. F is uniform for continuous
rewards, so the first mean is the integral of a log a over [0, 1]. Draws of equal reward share an interval [l, h] of F
and have one acceptance probability, the mean of a over it. Each such interval decreases the integral by

.. math:: C(l, h) = \int_l^h a \log a \, dF - (h - l) \, \bar a \log \bar a, \qquad
    \bar a = \frac{1}{h - l} \int_l^h a \, dF.
"""

from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.special import xlogy

from graft.accept.kl import Array, acceptance, integral

PANELS, NODES = 128, 8
"""Number of panels of the quadrature in F, and of nodes in a panel."""

STEP = 8.0
"""Number of standard deviations around the rise of a(F) with panels of their own."""

Part = tuple[float, float, int]
"""(share, K, M): share of the groups with acceptance of the best K of M."""


class Curve:
    """a(F) of a mixture of groups, and its integrals.

    Args:
        parts: Groups with their shares, which sum to 1.

    Attributes:
        whole: Integral of a log a over [0, 1].
    """

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts
        edges = [(1 - np.cos(np.pi * np.arange(PANELS + 1) / PANELS)) / 2]  # in large groups a is steep at the ends
        for _, keep, draws in (parts[0], parts[-1]):
            q = keep / draws
            edges.append(1 - q + STEP * (q * (1 - q) / draws) ** 0.5 * np.linspace(-1, 1, 33))
        x = np.unique(np.concatenate(edges).clip(0, 1))
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        half = np.diff(x)[:, None] / 2
        panels = (xlogy(a := self.acceptance(x[:-1, None] + half * (1 + nodes)), a) * weights * half).sum(1)
        reached = np.concatenate([[0.0], panels.cumsum()])
        self.whole = float(reached[-1])
        ends = self.acceptance(x)
        self._information = CubicHermiteSpline(x, reached, xlogy(ends, ends))

    def acceptance(self, f: Array) -> Array:
        """Return a(F)."""
        found: Array = np.sum([share * acceptance(f, keep, draws) for share, keep, draws in self.parts], axis=0)
        return found

    def integral(self, f: Array) -> Array:
        """Return the integral of a from 0 to f."""
        found: Array = np.sum([share * integral(f, keep, draws) for share, keep, draws in self.parts], axis=0)
        return found

    def cost(self, low: Array, high: Array) -> Array:
        """Return C(l, h), the decrease by equal rewards on [l, h], for intervals that are not empty."""
        mass = (self.integral(high) - self.integral(low)).clip(0)
        decrease: Array = self._information(high) - self._information(low) - xlogy(mass, mass / (high - low))
        return decrease


@lru_cache(maxsize=256)
def curve(parts: tuple[Part, ...]) -> Curve:
    """Return the curve of these groups, computed once."""
    return Curve(parts)
