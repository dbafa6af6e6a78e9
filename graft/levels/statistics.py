r"""What draws say of a level: pure functions of tensors, each for a stack of weightings of the same draws.

Everything is counted within conditions, as `graft.rounds.matched` counts gains: what is given, no level decides.
``counts`` (B, n) says how often each draw is counted: ones for the estimate itself, multinomial for the bootstrap.
Draws keep their fold, so that no copy of a draw helps to predict it.

With r̃ the reward less its condition's mean and f̃ the cross-fitted least-squares fit of r̃ on the reward of the
estimate E[x_0 | x_u],

.. math:: \rho^2(u) = 1 - \sum_i (\tilde r_i - \tilde f_i)^2 / \sum_i \tilde r_i^2, \qquad
    \text{surviving share} = \overline{\tilde f}_{accepted} / \overline{\tilde r}_{accepted},

the second with each condition weighted as it was drawn. Where the fit is E[r | x_u] these are the shares meant; where
the estimate's reward says less (a blurred molecule is none) both are too low, and only re-rolling tells.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

FOLDS = 5
COVERAGE = 0.95
BLOCK = 50  # resamples at a time: bounds memory


@dataclass
class Estimate:
    """A value with its interval; NaN where there is none."""

    value: float
    low: float
    high: float


def folds(count: int, generator: "Generator | None" = None) -> Tensor:
    """(count,) the fold of each draw, as even as possible."""
    return torch.randperm(count, generator=generator) % FOLDS


def resamples(count: int, times: int, generator: "Generator | None" = None) -> Tensor:
    """(times, count) how often each draw is in a bootstrap sample, float64."""
    drawn = torch.randint(count, (times, count), generator=generator)
    return torch.zeros(times, count, dtype=torch.float64).scatter_add_(
        1, drawn, torch.ones((), dtype=torch.float64).expand(times, count)
    )


def estimate(statistic: Callable[[Tensor], Tensor], counts: Tensor) -> Estimate:
    """A statistic of the draws with its percentile interval (Efron & Tibshirani 1993, section 13.3).

    Args:
        statistic: Of counts (B, n); gives (B,).
        counts: Of the `resamples`.
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
    """(B, n) values (n,) less the mean of their condition."""
    members, inverse = _members(groups)
    mean = (counts * values) @ members / (counts @ members).clamp(min=1e-300)
    return values - mean[:, inverse]


def fitted(rewards: Tensor, guesses: Tensor, groups: Tensor, fold: Tensor, counts: Tensor) -> Tensor:
    """(B, n) f̃: the cross-fitted least-squares fit of the rewards on guesses of them, both less their condition's mean.

    Args:
        rewards: (n,).
        guesses: (n,); NaN where there is none, which is then a regressor of its own.
        groups: (n,) condition of each draw.
        fold: (n,) each draw is predicted from the other folds.
        counts: (B, n).
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
    """(B,) ρ²(u): the share of the rewards' variance within conditions that the level has decided; see `fitted`.

    NaN where all rewards of a condition are equal.
    """
    target = centred(rewards, groups, counts)
    left = target - fitted(rewards, guesses, groups, fold, counts)
    return 1 - (counts * left.square()).sum(1) / (counts * target.square()).sum(1)


def matched(values: Tensor, groups: Tensor, index: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """(B,) mean over accepted draws of values (B, n), each condition weighted as drawn: `graft.rounds.matched`.

    Args:
        values: (B, n), or (n,).
        groups: (n,) condition of each draw.
        index: (A,) the accepted ones.
        weight: (A,) their weights.
        counts: (B, n).
    """
    members, _ = _members(groups)
    drawn = counts @ members
    w = counts[:, index] * weight
    taken = w @ members[index]
    mean = (w * values[..., index]) @ members[index] / taken.clamp(min=1e-300)
    covered = drawn * (taken > 0)
    return (covered * mean).sum(1) / covered.sum(1)


def gain(rewards: Tensor, groups: Tensor, index: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """(B,) the accepted gain: what accepted draws have more than the draws of their condition."""
    return matched(centred(rewards, groups, counts), groups, index, weight, counts)


def predicted(
    rewards: Tensor,
    guesses: Tensor,
    groups: Tensor,
    fold: Tensor,
    index: Tensor,
    weight: Tensor,
    counts: Tensor,
) -> Tensor:
    """(B,) the share of the accepted gain that survives by the fit; see `fitted` and `matched`."""
    fit = fitted(rewards, guesses, groups, fold, counts)
    return matched(fit, groups, index, weight, counts) / gain(rewards, groups, index, weight, counts)


def measured(rewards: Tensor, again: Tensor, groups: Tensor, index: Tensor, weight: Tensor, counts: Tensor) -> Tensor:
    """(B,) the share of the accepted gain that survives by re-rolling, over the accepted draws that were re-rolled.

    Args:
        rewards: (n,).
        again: (n,) mean reward of each draw's re-rolls, NaN where there is none.
        groups: (n,) condition of each draw.
        index: (A,) the accepted ones.
        weight: (A,) their weights.
        counts: (B, n).
    """
    rolled = ~again[index].isnan()
    index, weight = index[rolled], weight[rolled]
    if not len(index):
        return counts.new_full((len(counts),), math.nan)
    before = centred(rewards, groups, counts)
    after = before - rewards + again  # less the same mean
    return matched(after, groups, index, weight, counts) / matched(before, groups, index, weight, counts)


def mean(values: Tensor, counts: Tensor) -> Tensor:
    """(B,) of values (n,)."""
    return (counts @ values) / counts.sum(1)


def _members(groups: Tensor) -> tuple[Tensor, Tensor]:
    """(n, G) indicator of each condition, float64, and (n,) its column."""
    _, inverse = torch.unique(groups, return_inverse=True)
    return torch.nn.functional.one_hot(inverse).double(), inverse
