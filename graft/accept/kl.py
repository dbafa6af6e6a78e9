"""The acceptance of a rule that ranks, a(F) = P(accepted | F), and its integral."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betainc
from torch import Tensor

Array = NDArray[np.float64]


def cdf_intervals(rewards: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n,), (n,) the ends of the interval of the empirical CDF with each draw's reward."""
    _, inverse, counts = torch.unique(rewards, sorted=True, return_inverse=True, return_counts=True)
    reached = counts.cumsum(0)
    return ((reached - counts).double() / len(rewards))[inverse], (reached.double() / len(rewards))[inverse]


def acceptance(f: Array, keep: float, draws: int) -> Array:
    r"""Return a(F) = Σ_{k<K} C(M−1, k) (1−F)^k F^{M−1−k} for the best K of M.

    It is the probability that fewer than K draws are above, the regularised incomplete beta function I_F(M − K, K).
    Between whole numbers a is linear in K: with K below 1, the best draw is accepted with probability K.

    Args:
        f: CDF of the reward at the draw.
        keep: Number K of accepted draws, at most M, whole or not.
        draws: Number M of draws.
    """

    def whole(k: int) -> Array:
        if not 0 < k < draws:
            return np.full_like(f, k > 0)
        found: Array = betainc(draws - k, k, f)
        return found

    return _between_whole(keep, whole)


def integral(f: Array, keep: float, draws: int) -> Array:
    """Return the integral of `acceptance` from 0 to f.

    It is F I_F(M − K, K) − (M − K)/M I_F(M − K + 1, K).
    """

    def whole(k: int) -> Array:
        if not 0 < k < draws:
            return f * (k > 0)
        found: Array = f * betainc(draws - k, k, f) - (draws - k) / draws * betainc(draws - k + 1, k, f)
        return found

    return _between_whole(keep, whole)


def _between_whole(keep: float, at: Callable[[int], Array]) -> Array:
    """Return the value at ``keep``, linear between whole numbers."""
    low = math.floor(keep)
    return at(low) if low == keep else (low + 1 - keep) * at(low) + (keep - low) * at(low + 1)


def log_choose(m: Tensor, k: int) -> Tensor:
    """Return the logarithm of C(m, k), for each m."""
    return torch.lgamma(m + 1) - math.lgamma(k + 1) - torch.lgamma((m - k).clamp(min=0) + 1)
