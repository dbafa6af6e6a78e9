"""How many atoms a sample has: given, not generated."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from domains.molecules import qm9
from graft.errors import GraftError

Sizes: TypeAlias = "int | dict[int, float] | Literal['qm9'] | None"


def size_probabilities(sizes: Sizes, atoms: int, histogram: "Tensor | None") -> Tensor:
    """(atoms + 1,) unnormalised shares of samples by their number of atoms.

    Args:
        sizes: One number, a share for each, ``qm9`` for EDM's histogram, or None for the training data's.
        atoms: The most that the model has room for.
        histogram: Of the training data, if it is known.

    Raises:
        GraftError: Nothing is known, or the model has no room for a number that is asked for.
    """
    if sizes is None:
        if histogram is None:
            raise GraftError("these weights have no histogram of atom numbers: say how many with model.sizes")
        return histogram.double().clone()
    asked = {sizes: 1.0} if isinstance(sizes, int) else dict(qm9.SIZES) if isinstance(sizes, str) else sizes
    out = torch.zeros(atoms + 1, dtype=torch.float64)
    for number, share in asked.items():
        if not 1 <= number <= atoms or share < 0:
            raise GraftError(
                f"model.sizes asks for {number} atoms, share {share:g}: give 1 to {atoms} atoms, shares of at least 0"
            )
        out[number] = share
    if not bool(out.sum() > 0):
        raise GraftError("model.sizes gives no number of atoms a share above 0")
    return out
