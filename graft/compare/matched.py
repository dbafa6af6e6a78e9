"""Samples of the accepted distribution and of a model, matched condition by condition.

A rule may accept more under one condition than under another (`Threshold`, `ExponentialTilt` with a bound, any rule
that ranks the whole round), while a model is given the conditions as they come. Compared as they are, the two sets
differ by their conditions even where the model has the accepted distribution of each condition exactly. So all sets
that are compared have the same number of samples of each condition, and each condition has the weight of its share of
the model's samples.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass
class Matched:
    """Positions of samples in three sets; the i-th samples of all three have the same condition.

    Given the condition, the sets are independent draws of their distributions, so that where the model has the accepted
    distribution, the distance of ``half`` to ``tuned`` is distributed as that of ``half`` to ``other``, its floor.

    Attributes:
        half: (n,) among the accepted samples.
        other: (n,) among the accepted samples, others.
        tuned: (n,) among the model's samples.
        weight: (n,) of the i-th samples, 1 on average.
        share: Of the model's samples, those whose condition takes part: with at least two accepted samples.
    """

    half: Tensor
    other: Tensor
    tuned: Tensor
    weight: Tensor
    share: float


def match(accepted: Tensor, tuned: Tensor, generator: "Generator | None" = None) -> Matched:
    """Match accepted samples and a model's.

    Args:
        accepted: (N,) integer of the condition of each accepted sample.
        tuned: (M,) integer of the condition of each of the model's, as often as conditions come.
        generator: Of the halves.
    """
    order = torch.randperm(len(accepted), generator=generator)
    half, other, mine, weight = (list[Tensor]() for _ in range(4))
    covered = 0
    for value, number in zip(*torch.unique(tuned, return_counts=True), strict=True):
        there = order[accepted[order] == value]
        n = min(int(number), len(there) // 2)
        if n == 0:
            continue
        half.append(there[:n])
        other.append(there[n : 2 * n])
        mine.append((tuned == value).nonzero()[:n, 0])
        weight.append(torch.full((n,), float(number) / n, dtype=torch.float64))
        covered += int(number)
    if not half:
        none = torch.zeros(0, dtype=torch.long)
        return Matched(none, none, none, none.double(), 0.0)
    weights = torch.cat(weight)
    weights = weights / weights.mean()
    return Matched(torch.cat(half), torch.cat(other), torch.cat(mine), weights, covered / len(tuned))
