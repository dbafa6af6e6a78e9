"""De-duplication within a round: one draw of each key, and the law of keys that it leaves."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def first_of_each(keys: Sequence[str], usable: Tensor, generator: "Generator | None") -> tuple[Tensor, Tensor]:
    """(n,) bool: one draw of each key, at random; (n,) how many draws share its key."""
    keep, copies = torch.zeros(len(keys), dtype=torch.bool), torch.ones(len(keys), dtype=torch.float64)
    seen: dict[str, int] = {}
    for i in torch.randperm(len(keys), generator=generator).tolist():
        if not usable[i]:
            continue
        first = seen.setdefault(keys[i], i) if keys[i] else i
        keep[first] = True
        if first != i:
            copies[first] += 1
    return keep, copies


def spread(relative: Tensor, keys: Sequence[str], copies: Tensor) -> Tensor:
    """A of each kept draw shared out over its copies, of which any could have been the one kept."""
    of_key = {key: float(relative[i] / copies[i]) for i, key in enumerate(keys) if key and relative[i] > 0}
    return torch.tensor(
        [of_key.get(key, 0.0) if key else float(relative[i]) for i, key in enumerate(keys)], dtype=torch.float64
    )
