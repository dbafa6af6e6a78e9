"""Which draws of a round the reward is asked for, where it is not asked for all of them."""

import math

import torch
from scipy.special import betaincinv
from torch import Generator, Tensor

from graft.accept.kl import acceptance

NODES = 256  # quantiles that the average over a draw's unknown CDF takes


def even(groups: Tensor, most: int, generator: "Generator | None") -> Tensor:
    """Return (n,) bool: exactly ``most`` of n draws at random, each condition with its share of them.

    Systematic sampling (Madow 1949) of the draws in random order, sorted by condition with the conditions in random
    order. Every draw is chosen with probability most / n, and of a condition's m draws m · most / n, rounded up or
    down.

    Args:
        groups: (n,) integer of the condition of each draw.
        most: Draws to choose, at most n.
        generator: Of the random numbers.
    """
    n = len(groups)
    values, inverse = torch.unique(groups, return_inverse=True)
    order = torch.randperm(n, generator=generator)
    place = torch.randperm(len(values), generator=generator)[inverse]
    order = order[place[order].argsort(stable=True)]
    reached = torch.arange(n + 1, dtype=torch.float64) * most / n + torch.rand(
        (), generator=generator, dtype=torch.float64
    )
    chosen = torch.zeros(n, dtype=torch.bool)
    chosen[order[reached.floor().diff() > 0]] = True
    return chosen


def screened(values: Tensor, groups: Tensor, most: int, generator: "Generator | None" = None) -> Tensor:
    """Return (n,) bool: the best ``most`` of n draws, each condition with its share of them.

    The share of a condition is that of `even`. Draws without a value are not chosen, and where a condition has too few
    others, the other conditions have the rest in the same way. Equal values are in random order.

    Args:
        values: (n,) larger is better; NaN where there is none.
        groups: (n,) integer of the condition of each draw.
        most: Draws to choose.
        generator: Of the random numbers.
    """
    chosen = torch.zeros(len(values), dtype=torch.bool)
    among = torch.ones_like(chosen)
    mixed = torch.randperm(len(values), generator=generator)
    order = mixed[values[mixed].argsort(descending=True, stable=True)]
    while (missing := most - int(chosen.sum())) > 0 and bool(among.any()):
        places = among.nonzero()[:, 0]
        quota = groups[places[even(groups[places], min(missing, len(places)), generator)]]
        for group, count in zip(*torch.unique(quota, return_counts=True), strict=True):
            open_ = order[(groups[order] == group) & ~chosen[order] & ~values[order].isnan()]
            chosen[open_[: int(count)]] = True
        among = ~chosen & ~values.isnan()
    return chosen


def screen_information(values: Tensor, groups: Tensor, chosen: Tensor) -> Tensor:
    """Return (n,) log a of each draw that `screened` chose, for the KL of what is accepted: 0 in large groups.

    A condition's draws are chosen by rank, so that a(F) is that of the best K of M (`graft.accept.kl.acceptance`),
    K the condition's share. The CDF of a draw with j above it among M is Beta(M − j, j + 1), and log a is averaged
    over it.

    Args:
        values: (n,) larger is better; NaN where there is none.
        groups: (n,) integer of the condition of each draw.
        chosen: (n,) bool.
    """
    out = torch.zeros(len(values), dtype=torch.float64)
    share = float(chosen.double().mean())
    middle = (torch.arange(NODES, dtype=torch.float64) + 0.5) / NODES
    known: dict[tuple[int, int], float] = {}
    for group in torch.unique(groups[chosen]):
        inside = ((groups == group) & ~values.isnan()).nonzero()[:, 0]
        size = int((groups == group).sum())
        order = inside[values[inside].argsort(descending=True, stable=True)]
        for above, place in enumerate(order[chosen[order]].tolist()):
            if (size, above) not in known:
                f = betaincinv(size - above, above + 1, middle.numpy())
                a = acceptance(f, min(share * size, size), size).clip(math.exp(-100))
                known[size, above] = float(torch.from_numpy(a).log().mean())
            out[place] = known[size, above]
    return out
