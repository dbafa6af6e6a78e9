"""De-duplication within a round: one draw of each key, and the distribution of keys that it leaves."""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def keep_one_per_key(keys: Sequence[str], usable: Tensor, generator: "Generator | None") -> Tensor:
    """(n,) bool: one usable draw of each key, at random; every one whose key is empty."""
    keep = torch.zeros(len(keys), dtype=torch.bool)
    seen: set[str] = set()
    for i in torch.randperm(len(keys), generator=generator).tolist():
        if usable[i] and keys[i] not in seen:
            keep[i] = True
            seen |= {keys[i]} if keys[i] else set()
    return keep


def shares(keys: Sequence[str], kept: Tensor, spare: Tensor) -> Tensor:
    """(n,) log a of each kept draw: how likely a draw of its key is to be one of those kept, 0 where all of them are.

    Where t of c copies are kept, each of them is kept with probability t / c. The number of copies C is random, and a
    is the mean over it: (1 − (1 − p)^n) / (n p) for a key of probability p, n draws and t = 1. The mean of log(t/C)
    is larger than log a, by about (1 − p) / (2 n p). This is taken off as (1 − c/n) / (2 c), and for two copies as (1
    − c/n) log(e/2), which is exact for rare keys.

    Args:
        keys: Of each draw.
        kept: (n,) bool.
        spare: (n,) bool, those that lost their place to one of the same key by chance.
    """
    places = kept | spare
    total = int(places.sum())
    there = Counter(keys[i] for i in places.nonzero()[:, 0].tolist())
    lost = Counter(keys[i] for i in spare.nonzero()[:, 0].tolist())
    out = torch.zeros(len(places), dtype=torch.float64)
    for i in kept.nonzero()[:, 0].tolist():
        if lost[keys[i]]:
            c = there[keys[i]]
            bias = math.log(math.e / 2) if c == 2 else 1 / (2 * c)
            out[i] = math.log((c - lost[keys[i]]) / c) - (1 - c / total) * bias
    return out
