"""Choose the draws to score in a round, if the budget is smaller than the round."""

import math

import torch
from scipy.special import betaincinv
from torch import Generator, Tensor

from graft.accept.kl import acceptance

NODES = 256  # number of quantiles in the average over the unknown CDF value of a draw


def equal_shares(groups: Tensor, most: int, generator: "Generator | None") -> Tensor:
    """Return (n,) bool: exactly ``most`` random draws, in equal shares of each condition.

    Systematic sampling (Madow 1949) of the draws in random order, sorted by condition with the conditions in random
    order. Every draw is chosen with probability most / n. A condition with m draws gets m · most / n draws, rounded up
    or down.

    Args:
        groups: (n,) integer of the condition of each draw.
        most: Number of draws to choose, at most n.
        generator: Source of the random numbers.
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


def top_per_group(values: Tensor, groups: Tensor, most: int, generator: "Generator | None" = None) -> Tensor:
    """Return (n,) bool: the best ``most`` draws by value, in equal shares of each condition.

    `equal_shares` sets the number of draws of a condition. A draw without a value is not chosen. If a condition has too
    few values, the other conditions share the rest in the same way. Equal values are in random order.

    Args:
        values: (n,) values, larger is better; NaN for a draw without a value.
        groups: (n,) integer of the condition of each draw.
        most: Number of draws to choose.
        generator: Source of the random numbers.
    """
    chosen = torch.zeros(len(values), dtype=torch.bool)
    among = torch.ones_like(chosen)
    mixed = torch.randperm(len(values), generator=generator)
    order = mixed[values[mixed].argsort(descending=True, stable=True)]
    while (missing := most - int(chosen.sum())) > 0 and bool(among.any()):
        places = among.nonzero()[:, 0]
        quota = groups[places[equal_shares(groups[places], min(missing, len(places)), generator)]]
        for group, count in zip(*torch.unique(quota, return_counts=True), strict=True):
            open_ = order[(groups[order] == group) & ~chosen[order] & ~values[order].isnan()]
            chosen[open_[: int(count)]] = True
        among = ~chosen & ~values.isnan()
    return chosen


def proxy_information(values: Tensor, groups: Tensor, chosen: Tensor) -> Tensor:
    """Return (n,) mean log acceptance of each draw that `top_per_group` chose, for the KL; else 0.

    The draws of a condition are chosen by rank, so the acceptance a(F) is that of the best K of M draws
    (`graft.accept.kl.acceptance`), with K the share of the condition. The CDF value F of a draw with j better draws
    among M has the distribution Beta(M − j, j + 1). The result is the mean of log a over this distribution.

    Args:
        values: (n,) values, larger is better; NaN for a draw without a value.
        groups: (n,) integer of the condition of each draw.
        chosen: (n,) bool, True for a draw that `top_per_group` chose.
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
