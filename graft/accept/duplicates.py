"""De-duplication within a round: one draw of each key, and the law of keys that it leaves."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def first_of_each(keys: Sequence[str], usable: Tensor, generator: "Generator | None") -> Tensor:
    """(n,) bool: one usable draw of each key, at random; every one whose key is empty."""
    keep = torch.zeros(len(keys), dtype=torch.bool)
    seen: set[str] = set()
    for i in torch.randperm(len(keys), generator=generator).tolist():
        if usable[i] and keys[i] not in seen:
            keep[i] = True
            seen |= {keys[i]} if keys[i] else set()
    return keep


def spread(relative: Tensor, keys: Sequence[str], places: Tensor, spare: Tensor) -> Tensor:
    """A of the kept draws of a key shared out over all of which any could have been the ones kept.

    Args:
        relative: (n,) A of each draw, 0 where it was not kept.
        keys: Of each.
        places: (n,) bool, the kept and the spare draws.
        spare: (n,) bool, those that lost their place to one of the same key by chance; other keys are left as they are.
    """
    shared = {keys[i] for i in spare.nonzero()[:, 0].tolist()}
    members: dict[str, list[int]] = {}
    for i in places.nonzero()[:, 0].tolist():
        if keys[i] in shared:
            members.setdefault(keys[i], []).append(i)
    out = relative.clone()
    for positions in members.values():
        out[positions] = relative[positions].mean()
    return out
