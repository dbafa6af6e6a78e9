r"""Statistics of draws for a level: functions of tensors, each for a stack of weightings of the same draws.

All rewards are compared within their condition, since no level decides the condition. ``counts`` (B, n) is the number
of times that each draw counts: ones for the estimate itself, multinomial for the bootstrap. A draw keeps its fold in a
bootstrap sample, so that no copy of the draw is used to predict it.

Let r̃ be the reward minus its condition's mean, and f̃ the cross-fitted least-squares fit of r̃ on the reward of the
prediction E[x_0 | x_u]. Then

.. math:: \rho^2(u) = 1 - \sum_i (\tilde r_i - \tilde f_i)^2 / \sum_i \tilde r_i^2, \qquad
    \text{surviving share} = \overline{\tilde f}_{accepted} / \overline{\tilde r}_{accepted},

where the second ratio weights each condition by its number of draws. If the fit equals E[r | x_u], both shares are
exact. If the reward of the prediction has less information (a blurred molecule is often invalid), both are too low, and
the re-rolled share is the one to trust.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

FOLDS = 5
"""Number of folds of the cross-fit."""
COVERAGE = 0.95
"""Coverage of the bootstrap intervals."""
BLOCK = 50
"""Number of bootstrap samples that are computed at a time, which bounds the memory."""


@dataclass
class Estimate:
    """A value with the ends of its interval; NaN for a value or an end that does not exist."""

    value: float
    low: float
    high: float


def folds(count: int, generator: "Generator | None" = None) -> Tensor:
    """Return (count,) the random fold of each draw; sizes differ by at most one."""
    return torch.randperm(count, generator=generator) % FOLDS


def resamples(count: int, times: int, generator: "Generator | None" = None) -> Tensor:
    """Return (times, count) how often each draw is in each bootstrap sample, float64."""
    drawn = torch.randint(count, (times, count), generator=generator)
    return torch.zeros(times, count, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones((), dtype=torch.float64).expand(times, count)
    )


def estimate(statistic: Callable[[Tensor], Tensor], counts: Tensor) -> Estimate:
    """Return a statistic of the draws with its percentile interval.

    Source: Efron & Tibshirani 1993, section 13.3.

    Args:
        statistic: Function of counts (B, n) that returns (B,).
        counts: (times, n) counts of the bootstrap samples, from `resamples`.
    """
    value = float(statistic(torch.ones_like(counts[:1]))[0])
    spread = torch.cat([statistic(counts[i : i + BLOCK]) for i in range(0, len(counts), BLOCK)])
    spread = spread[spread.isfinite()]
    if not len(spread) or not math.isfinite(value):
        return Estimate(value, math.nan, math.nan)
    tail = (1 - COVERAGE) / 2
    low, high = torch.quantile(spread, spread.new_tensor([tail, 1 - tail])).tolist()
    return Estimate(value, low, high)


def centred(values: Tensor, groups: Tensor, counts: Tensor) -> Tensor:
    """Return (B, n): the values (n,) minus the mean of their condition."""
    members, inverse = _members(groups)
    mean = (counts * values) @ members / (counts @ members).clamp(min=1e-300)
    return values - mean[:, inverse]


def fitted(rewards: Tensor, guesses: Tensor, groups: Tensor, fold: Tensor, counts: Tensor) -> Tensor:
    """Return (B, n) f̃: the cross-fitted least-squares fit of the rewards on guesses.

    Both are taken minus their condition's mean.

    Args:
        rewards: (n,) reward of each draw.
        guesses: (n,) reward of the prediction of each draw, NaN if there is none; a missing guess is a regressor, too.
        groups: (n,) condition of each draw.
        fold: (n,) fold of each draw, which is predicted from the other folds.
        counts: (B, n) number of times that each draw counts.
    """
    missing = guesses.isnan()
    known = guesses[~missing]
    columns = [torch.where(missing, known.mean(), guesses)] if len(known) else []
    if bool(missing.any()):
        columns.append(missing.double())
    scaled = [column / spread for column in columns if (spread := column.std()) > 1e-12 * column.abs().max()]
    target = centred(rewards, groups, counts)
    fit = torch.zeros_like(target)
    if not scaled:
        return fit
    x = torch.stack([centred(column, groups, counts) for column in scaled], -1)  # (B, n, p)
    for k in range(FOLDS):
        others = counts * (fold != k)
        square = torch.einsum("bn,bni,bnj->bij", others, x, x)
        cross = torch.einsum("bn,bni,bn->bi", others, x, target)
        slope = (torch.linalg.pinv(square, rtol=1e-10, hermitian=True) @ cross[..., None])[..., 0]
        held = fold == k
        fit[:, held] = torch.einsum("bni,bi->bn", x[:, held], slope)
    return fit


def decided(rewards: Tensor, guesses: Tensor, groups: Tensor, fold: Tensor, counts: Tensor) -> Tensor:
    """Return (B,) ρ²(u): the share of the rewards' variance that the level decides.

    The variance is that within conditions. The fit gives the share that is decided. The result is NaN if all rewards
    of each condition are equal.

    Args:
        rewards: (n,) reward of each draw.
        guesses: (n,) reward of the prediction of each draw, NaN if there is none.
        groups: (n,) condition of each draw.
        fold: (n,) fold of each draw.
        counts: (B, n) number of times that each draw counts.
    """
    target = centred(rewards, groups, counts)
    left = target - fitted(rewards, guesses, groups, fold, counts)
    return 1 - (counts * left.square()).sum(1) / (counts * target.square()).sum(1)


def condition_matched_mean(values: Tensor, groups: Tensor, index: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Return (B,) the condition-matched mean of values over accepted draws.

    Each condition has the weight of its number of draws.

    Args:
        values: (B, n) or (n,) value of each draw.
        groups: (n,) condition of each draw.
        index: (A,) positions of the accepted draws.
        weight: (A,) weights of the accepted draws.
        counts: (B, n) number of times that each draw counts.
    """
    members, _ = _members(groups)
    drawn = counts @ members
    w = counts[:, index] * weight
    taken = w @ members[index]
    mean = (w * values[..., index]) @ members[index] / taken.clamp(min=1e-300)
    covered = drawn * (taken > 0)
    return (covered * mean).sum(1) / covered.sum(1)


def gain(rewards: Tensor, groups: Tensor, index: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Return (B,) the accepted gain, matched by condition.

    It is the mean reward of accepted draws minus that of all draws of their condition.
    """
    return condition_matched_mean(centred(rewards, groups, counts), groups, index, weight, counts)


def predicted(
    rewards: Tensor,
    guesses: Tensor,
    groups: Tensor,
    fold: Tensor,
    index: Tensor,
    weight: Tensor,
    counts: Tensor,
) -> Tensor:
    """Return (B,) the share of the accepted gain that survives, by the fit.

    The arguments are those of `fitted` and `condition_matched_mean`.
    """
    fit = fitted(rewards, guesses, groups, fold, counts)
    return condition_matched_mean(fit, groups, index, weight, counts) / gain(rewards, groups, index, weight, counts)


def measured(rewards: Tensor, again: Tensor, groups: Tensor, index: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """Return (B,) the share of the accepted gain that survives, by re-rolling.

    The share is over the accepted draws that were re-rolled.

    Args:
        rewards: (n,) reward of each draw.
        again: (n,) mean reward of each draw's re-rolls, NaN for a draw that was not re-rolled.
        groups: (n,) condition of each draw.
        index: (A,) positions of the accepted draws.
        weight: (A,) weights of the accepted draws.
        counts: (B, n) number of times that each draw counts.
    """
    rolled = ~again[index].isnan()
    index, weight = index[rolled], weight[rolled]
    if not len(index):
        return counts.new_full((len(counts),), math.nan)
    before = centred(rewards, groups, counts)
    after = before - rewards + again  # minus the same mean as the rewards
    return condition_matched_mean(after, groups, index, weight, counts) / condition_matched_mean(
        before, groups, index, weight, counts
    )


def mean(values: Tensor, counts: Tensor) -> Tensor:
    """Return (B,) the mean of values (n,)."""
    return (counts @ values) / counts.sum(1)


def _members(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n, G) the indicator of each condition, float64, and (n,) its column."""
    _, inverse = torch.unique(groups, return_inverse=True)
    return torch.nn.functional.one_hot(inverse).double(), inverse
