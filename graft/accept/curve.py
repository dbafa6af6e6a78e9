r"""The integral of a log a over the CDF for a rule that ranks, and what equal rewards take off it.

The accepted distribution p* ∝ p a(F) has KL(p* ‖ p) = E[a log a] / E[a] − log E[a]. F is uniform for continuous
rewards, so the first mean is the integral of a log a over [0, 1]. Draws of equal reward share an interval [l, h] of F
and have one acceptance probability, the mean of a over it. Each such interval takes off

.. math:: C(l, h) = \int_l^h a \log a \, dF - (h - l) \, \bar a \log \bar a, \qquad
    \bar a = \frac{1}{h - l} \int_l^h a \, dF.
"""

from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.special import xlogy

from graft.accept.kl import Array, acceptance, integral

PANELS, NODES = 128, 8  # of the quadrature, in F
STEP = 8.0  # standard deviations around the rise of a(F) that get panels of their own

Part = tuple[float, float, int]
"""(share, K, M): share of the groups in which the best K of M are accepted."""


class Curve:
    """a(F) of a mixture of groups, and its integrals.

    Args:
        parts: The groups; the shares sum to 1.

    Attributes:
        whole: The integral of a log a over [0, 1].
    """

    def __init__(self, parts: tuple[Part, ...]) -> None:
        self.parts = parts
        edges = [(1 - np.cos(np.pi * np.arange(PANELS + 1) / PANELS)) / 2]  # a is steep at the ends in large groups
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
        """a(F)."""
        found: Array = np.sum([share * acceptance(f, keep, draws) for share, keep, draws in self.parts], axis=0)
        return found

    def integral(self, f: Array) -> Array:
        """The integral of a from 0 to f."""
        found: Array = np.sum([share * integral(f, keep, draws) for share, keep, draws in self.parts], axis=0)
        return found

    def cost(self, low: Array, high: Array) -> Array:
        """C(l, h), what equal rewards on [l, h] take off, for intervals that are not empty."""
        mass = (self.integral(high) - self.integral(low)).clip(0)
        lost: Array = self._information(high) - self._information(low) - xlogy(mass, mass / (high - low))
        return lost


@lru_cache(maxsize=256)
def curve(parts: tuple[Part, ...]) -> Curve:
    """The curve of these groups, computed once."""
    return Curve(parts)
