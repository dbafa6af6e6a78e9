"""The law of what is accepted, from the realised rewards: ties share an interval of the CDF, and its KL."""

import math

import numpy as np
import torch
from scipy.special import betainc
from torch import Tensor


def intervals(rewards: Tensor) -> tuple[Tensor, Tensor]:
    """(n,) and (n,): the interval of the empirical CDF that each draw shares with those of equal reward."""
    _, inverse, counts = torch.unique(rewards, sorted=True, return_inverse=True, return_counts=True)
    reached = counts.cumsum(0)
    return ((reached - counts).double() / len(rewards))[inverse], (reached.double() / len(rewards))[inverse]


def top_k_average(low: Tensor, high: Tensor, keep: float, draws: float) -> Tensor:
    r"""The mean over [low, high] of a(F) = Σ_{k<K} C(M−1, k) (1−F)^k F^{M−1−k}, for K of M.

    With the regularised incomplete beta function a(F) = I_F(M − K, K), whose integral is
    F I_F(M − K, K) − (M − K)/M I_F(M − K + 1, K); K need not be whole.
    """
    if keep >= draws:
        return torch.ones_like(low)

    def integral(f: Tensor) -> Tensor:
        x = f.numpy()
        first: np.ndarray = betainc(draws - keep, keep, x)
        second: np.ndarray = betainc(draws - keep + 1, keep, x)
        return torch.from_numpy(x * first - (draws - keep) / draws * second)

    return ((integral(high) - integral(low)) / (high - low)).clamp(0, 1)


def log_choose(m: Tensor, k: int) -> Tensor:
    """The logarithm of C(m, k), for each m."""
    return torch.lgamma(m + 1) - math.lgamma(k + 1) - torch.lgamma((m - k).clamp(min=0) + 1)


def kl(relative: Tensor) -> float:
    """KL(accepted ‖ drawn) in nats of draws accepted in proportion to ``relative`` (n,): Σ p log(n p)."""
    p = relative / relative.sum()
    return float(torch.special.xlogy(p, p * len(p)).sum())
