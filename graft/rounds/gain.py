"""Gains, matched condition by condition: what samples gain of the reward, and what the accepted draws gain there."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Gain:
    """What a model's samples gain over the reference's; NaN where there is nothing to average.

    Attributes:
        reward: Mean reward less the reference's, each condition with its share of the samples.
        accepted: Mean reward of accepted draws less the reference's, over the conditions that have accepted draws.
        of_accepted: The model's gain over the same conditions, as a share of that.
        share: Of the samples, those whose condition has accepted draws.
    """

    reward: float
    accepted: float
    of_accepted: float
    share: float


def means(rewards: Tensor, groups: Tensor, weight: "Tensor | None" = None) -> dict[int, float]:
    """The mean reward of each condition that has one.

    Args:
        rewards: (n,), NaN where it failed.
        groups: (n,) integer of the condition of each.
        weight: (n,) of each; equal weights if not given.
    """
    weight = torch.ones_like(rewards) if weight is None else weight
    there = ~rewards.isnan() & (weight > 0)
    values, inverse = torch.unique(groups[there], return_inverse=True)
    total, number = torch.zeros(2, len(values), dtype=torch.float64)
    total.index_add_(0, inverse, (weight * rewards)[there].double())
    number.index_add_(0, inverse, weight[there].double())
    return dict(zip(values.tolist(), (total / number).tolist(), strict=True))


def matching(groups: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Return (A,) weights with which accepted draws have their conditions as often as all draws have them.

    Args:
        groups: (n,) integer of the condition of each draw.
        index: (A,) the accepted ones.
        weight: (A,) how much each counts within its condition.
    """
    values, inverse = torch.unique(groups, return_inverse=True)
    drawn = torch.bincount(inverse, minlength=len(values)).double()
    accepted = torch.zeros(len(values), dtype=torch.float64).index_add_(0, inverse[index], weight.double())
    return weight * (drawn / accepted)[inverse[index]]


def gain(tuned: Tensor, reference: Tensor, groups: Tensor, accepted: dict[int, float]) -> Gain:
    """Compare samples with the reference's and with accepted draws, condition by condition.

    Conditions in which nothing was accepted have no accepted distribution. They count in ``reward`` and are left out of
    the rest, on both sides; ``share`` says how many samples are left.

    Args:
        tuned: (n,) rewards of the model's samples, NaN where it failed.
        reference: (n,) of the reference's, under the same conditions.
        groups: (n,) integer of the condition of each.
        accepted: Mean reward of accepted draws by condition; see `means`.
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
