"""De-duplication within a round: one draw of each key, and its acceptance probability."""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def keep_one_per_key(keys: Sequence[str], usable: Tensor, generator: "Generator | None") -> Tensor:
    """Return (n,) bool: one random usable draw of each key, and every one with an empty key."""
    keep = torch.zeros(len(keys), dtype=torch.bool)
    seen: set[str] = set()
    for i in torch.randperm(len(keys), generator=generator).tolist():
        if usable[i] and keys[i] not in seen:
            keep[i] = True
            seen |= {keys[i]} if keys[i] else set()
    return keep


def shares(keys: Sequence[str], kept: Tensor, interchangeable: Tensor) -> Tensor:
    """Return (n,) log a of each kept draw, 0 for a draw with no rejected duplicate.

    a is the probability that a draw of the key is kept. Where t of c copies are kept, it is t / c. The number of copies
    C is random, and a is the mean over it: (1 − (1 − p)^n) / (n p) for a key of probability p, n draws and t = 1. The
    mean of log(t/C) is larger than log a by about (1 − p) / (2 n p). The function subtracts (1 − c/n) / (2 c), and for
    two copies (1 − c/n) log(e/2), which is exact for rare keys.

    Args:
        keys: Key of each draw.
        kept: True for the kept draws, (n,) bool.
        interchangeable: True for the draws that were rejected by chance for another draw of their key, (n,) bool.
    """
    places = kept | interchangeable
    total = int(places.sum())
    there = Counter(keys[i] for i in places.nonzero()[:, 0].tolist())
    lost = Counter(keys[i] for i in interchangeable.nonzero()[:, 0].tolist())
    out = torch.zeros(len(places), dtype=torch.float64)
    for i in kept.nonzero()[:, 0].tolist():
        if lost[keys[i]]:
            c = there[keys[i]]
            bias = math.log(math.e / 2) if c == 2 else 1 / (2 * c)
            out[i] = math.log((c - lost[keys[i]]) / c) - (1 - c / total) * bias
    return out
