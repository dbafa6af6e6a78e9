"""The decrease of a round's KL by ties, estimated from one group of draws without bias.

In a group of n draws, k draws have a tied value and b draws are below it. The interval of F of that value is not known
exactly, so the plug-in estimate C(b/n, (b+k)/n) is too large on average, most in small groups. Groups of up to `MOST`
draws use a table t(b, k) instead, with

    Σ_{b,k} Multinomial(b, k, n − b − k; l, h − l, 1 − h) t(b, k) = C(l, h)

for all l and h, solved by least squares on a grid. The left side is a polynomial of degree n in l and h. From four
draws on the equation holds to 1e-3. Two draws carry little information about ties: the error is at most 0.04. A value
of a single draw decreases nothing, so continuous rewards have their closed form exactly. Larger groups use the
jackknife of the plug-in estimate (Quenouille 1956).
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy

from graft.accept.curve import Curve, Part, curve
from graft.accept.kl import Array

Counts = NDArray[np.int64]

MOST = 32
"""Largest number of draws of a group with a table."""

GRID = 33
"""Number of positions of each end of an interval on the grid of the least squares."""

RIDGE = 1e-6
"""Ridge of the least squares."""


def cost(parts: tuple[Part, ...], counts: "list[int]") -> float:
    """Return an unbiased estimate of the sum of C(l, h) over the values of a group's rewards.

    Args:
        parts: Parts of the group's `Curve`.
        counts: Number of draws with each value, from the lowest value up.
    """
    n, run = sum(counts), np.array(counts, np.int64)
    if not (run > 1).any():
        return 0.0
    if n <= MOST:
        below = run.cumsum() - run
        return float(_table(parts, n)[below[run > 1], run[run > 1]].sum())
    return _jackknife(curve(parts), run)


def _jackknife(found: Curve, run: Counts) -> float:
    n = int(run.sum())
    tied = run > 1
    # the estimate without one draw is the same for all draws between two tied values
    places = np.flatnonzero(tied | np.concatenate([[True], tied[:-1]]))
    alike = np.add.reduceat(run, places)
    without = 0.0
    for place, number in zip(places, alike, strict=True):
        one_less = run.copy()
        one_less[place] -= 1
        without += number / n * _plug_in(found, one_less)
    return n * _plug_in(found, run) - (n - 1) * without


def _plug_in(found: Curve, run: Counts) -> float:
    reached, tied = run.cumsum(), run > 1
    return float(found.cost((reached - run)[tied] / reached[-1], reached[tied] / reached[-1]).sum())


@lru_cache(maxsize=256)
def _table(parts: tuple[Part, ...], n: int) -> Array:
    """Return the (n + 1, n + 1) table t(b, k), 0 for k below 2."""
    low, high, b, k, solve = _inverse(n)
    table = np.zeros((n + 1, n + 1))
    table[b, k] = solve @ curve(parts).cost(low, high)
    return table


@lru_cache(maxsize=8)
def _inverse(n: int) -> tuple[Array, Array, Counts, Counts, Array]:
    """Return intervals (g,), (g,), counts (s,), (s,), and the matrix (s, g) from C to t.

    The matrix maps C on the intervals to t on the counts.
    """
    b, k = (each.ravel() for each in np.meshgrid(np.arange(n + 1, dtype=np.int64), np.arange(2, n + 1), indexing="ij"))
    b, k = b[b + k <= n], k[b + k <= n]
    grid = (1 - np.cos(np.pi * np.linspace(0, 1, GRID))) / 2
    low, high = (each.ravel() for each in np.meshgrid(grid, grid, indexing="ij"))
    low, high = low[low < high], high[low < high]
    above = n - b - k
    ways = gammaln(n + 1) - gammaln(b + 1) - gammaln(k + 1) - gammaln(above + 1)
    inside = xlogy(b, low[:, None]) + xlogy(k, (high - low)[:, None]) + xlogy(above, 1 - high[:, None])
    chance = np.exp(ways + inside)
    return low, high, b, k, np.linalg.solve(chance.T @ chance + RIDGE * np.eye(len(b)), chance.T)
