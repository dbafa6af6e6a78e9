"""Samples of the accepted distribution and of a model, matched condition by condition.

A rule may accept more under one condition than under another (`Threshold`, `ExponentialTilt` with a bound, any rule
that ranks the whole round), while a model samples each condition as often as it comes. Without matching, the two sets
would differ by their conditions even if the model had the accepted distribution of each condition exactly. All sets
that are compared therefore have the same number of samples of each condition, and each condition has the weight of its
share of the model's samples.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass
class Matched:
    """Positions of samples in three sets; the i-th samples of all three have the same condition.

    Given the condition, the sets are independent draws of their distributions. If the model has the accepted
    distribution, the distance of ``half`` to ``tuned`` therefore has the same distribution as the distance of ``half``
    to ``other``, the floor.

    Attributes:
        half: (n,) positions among the accepted samples.
        other: (n,) positions among the accepted samples; disjoint from ``half``.
        tuned: (n,) positions among the model's samples.
        weight: (n,) weight of the i-th samples, 1 on average.
        share: Share of the model's samples with at least two accepted samples of their condition.
    """

    half: Tensor
    other: Tensor
    tuned: Tensor
    weight: Tensor
    share: float


def match(accepted: Tensor, tuned: Tensor, generator: "Generator | None" = None) -> Matched:
    """Return the positions of accepted samples and of a model's samples, matched by condition.

    Args:
        accepted: (N,) integer of the condition of each accepted sample.
        tuned: (M,) integer of the condition of each sample of the model.
        generator: Random generator that splits the accepted samples into halves.
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
