"""Distribution of the number of atoms of a sample, which is drawn and not generated."""

from typing import Literal, TypeAlias

import torch
from torch import Tensor

from domains.molecules import qm9
from graft.errors import GraftError

Sizes: TypeAlias = "int | dict[int, float] | Literal['qm9'] | None"


def size_probabilities(sizes: Sizes, atoms: int, histogram: "Tensor | None") -> Tensor:
    """Return (atoms + 1,) unnormalised probabilities of each number of atoms.

    Args:
        sizes: A number, a share for each number, ``qm9`` for EDM's histogram, or None for the training data's.
        atoms: Largest number of atoms of the model.
        histogram: Histogram of the training data; None if it is not known.

    Raises:
        GraftError: No histogram is known, or a number of atoms is larger than the model allows.
    """
    if sizes is None:
        if histogram is None:
            raise GraftError("these weights have no histogram of atom numbers: give model.sizes")
        return histogram.double().clone()
    frequencies = {sizes: 1.0} if isinstance(sizes, int) else dict(qm9.SIZES) if isinstance(sizes, str) else sizes
    out = torch.zeros(atoms + 1, dtype=torch.float64)
    for number, share in frequencies.items():
        if not 1 <= number <= atoms or share < 0:
            raise GraftError(
                f"model.sizes asks for {number} atoms, share {share:g}: give 1 to {atoms} atoms, shares of at least 0"
            )
        out[number] = share
    if not bool(out.sum() > 0):
        raise GraftError("model.sizes gives no number of atoms a share above 0")
    return out
