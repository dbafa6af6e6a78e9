"""The gain in reward of samples and accepted draws over the reference, by condition."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Gain:
    """The gain of a model over the reference; NaN for a mean of no samples.

    Attributes:
        reward: Mean reward minus that of the reference. A condition is weighted by its number of samples.
        accepted: Mean reward of accepted draws minus that of the reference, over the conditions with accepted draws.
        of_accepted: Gain of the model over the conditions with accepted draws, divided by ``accepted``.
        share: Share of the samples in the conditions with accepted draws.
    """

    reward: float
    accepted: float
    of_accepted: float
    share: float


def means(rewards: Tensor, groups: Tensor, weight: "Tensor | None" = None) -> dict[int, float]:
    """Return the mean reward of each condition that has a reward, by condition.

    Args:
        rewards: (n,) rewards, NaN for a failed one.
        groups: (n,) integer of the condition of each reward.
        weight: (n,) weights of the rewards; equal weights if not given.
    """
    weight = torch.ones_like(rewards) if weight is None else weight
    there = ~rewards.isnan() & (weight > 0)
    values, inverse = torch.unique(groups[there], return_inverse=True)
    total, number = torch.zeros(2, len(values), dtype=torch.float64)
    total.index_add_(0, inverse, (weight * rewards)[there].double())
    number.index_add_(0, inverse, weight[there].double())
    return dict(zip(values.tolist(), (total / number).tolist(), strict=True))


def condition_matched_mean(rewards: Tensor, groups: Tensor, index: Tensor, weight: Tensor) -> tuple[float, float]:
    """Return (mean accepted reward, covered share), matched by condition.

    A condition is weighted by its number of draws. The covered share is the share of all draws in conditions with
    accepted draws.

    Args:
        rewards: (n,) rewards of all draws, NaN for a failed one.
        groups: (n,) condition of each draw.
        index: (A,) positions of the accepted draws.
        weight: (A,) weights of the accepted draws.
    """
    total, covered = 0.0, 0
    for group in torch.unique(groups):
        inside = groups[index] == group
        if not bool(inside.any()):
            continue
        drawn = int((groups == group).sum())
        w = weight[inside]
        total += drawn * float((w * rewards[index[inside]]).sum() / w.sum())
        covered += drawn
    return total / covered, covered / len(groups)


def matching(groups: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Return (A,) weights of accepted draws that restore the condition frequencies of all draws.

    Args:
        groups: (n,) integer of the condition of each draw.
        index: (A,) positions of the accepted draws.
        weight: (A,) weights of the accepted draws within their condition.
    """
    values, inverse = torch.unique(groups, return_inverse=True)
    drawn = torch.bincount(inverse, minlength=len(values)).double()
    accepted = torch.zeros(len(values), dtype=torch.float64).index_add_(0, inverse[index], weight.double())
    return weight * (drawn / accepted)[inverse[index]]


def gain(tuned: Tensor, reference: Tensor, groups: Tensor, accepted: dict[int, float]) -> Gain:
    """Return the `Gain` of samples over the reference, matched by condition.

    A condition without accepted draws has no accepted distribution. Such a condition counts in ``reward`` only; the
    other figures skip it on both sides.

    Args:
        tuned: (n,) rewards of the samples of the model, NaN for a failed one.
        reference: (n,) rewards of the samples of the reference under the same conditions, NaN for a failed one.
        groups: (n,) integer of the condition of each sample.
        accepted: Mean reward of accepted draws by condition, as `means` returns it.
    """
    ours, theirs = means(tuned, groups), means(reference, groups)
    number = dict(zip(*(each.tolist() for each in torch.unique(groups, return_counts=True)), strict=True))
    both = [value for value in number if value in ours and value in theirs]
    covered = [value for value in both if value in accepted]

    def mean(of: dict[int, float], over: list[int]) -> float:
        drawn = sum(number[value] for value in over)
        return sum(number[value] * (of[value] - theirs[value]) for value in over) / drawn if drawn else math.nan

    whole = mean(accepted, covered)
    share = sum(number[value] for value in number if value in accepted) / max(1, len(groups))
    return Gain(mean(ours, both), whole, mean(ours, covered) / whole if whole else math.nan, share)
