"""A network that also says the bonds: trained beside the denoising loss, used by no sampler.

A bond is decided by hundredths of an Ångström, which the squared error of positions hardly sees; the cross-entropy of
the pairs' bond orders in x_0 teaches the pairs' features what is bonded early on (as in MiDi, Vignac et al. 2023, whose
bonds are generated; here only read).
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from domains.molecules.backbone import EGNN, DensePairs, Pairs, length
from domains.molecules.chemistry import Vocabulary, bond_orders


class BondedEGNN(EGNN):
    """`EGNN` with a head that says the order, 0 to 3, of the bond of every pair in x_0; for dense batches.

    Args:
        *args: Of `EGNN`.
        share: Of the bonds' cross-entropy in the loss of a sample.
        **kwargs: Of `EGNN`.
    """

    def __init__(self, *args: Any, share: float = 0.05, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.share = share
        self.bonds = nn.Linear(self.width, 4)
        self.said: list[Tensor] = []  # logits (B, P, 4) of the last call

    def denoise(self, x: Tensor, h: Tensor, clock: Tensor, trust: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """See `EGNN.denoise`."""
        start, pair, h = x, self.pair(self.basis(length(pairs.minus(x)))), self.embed(h)
        for layer in self.layers:
            h, x, pair = layer(h, x, pair, clock, pairs, self.basis)
        self.said = [self.bonds(pair)] if torch.is_grad_enabled() or self.training else []
        return x - start + trust * start, self.types(h)


def cross_entropy(logits: Tensor, x: Tensor, h: Tensor, mask: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(B,) mean cross-entropy over the pairs of atoms of what was said of their bonds, by the distance rule.

    Args:
        logits: (B, P, 4) in the order of `DensePairs`.
        x: (B, N, 3) Å, data.
        h: (B, N, types) data.
        mask: (B, N).
        vocabulary: Of the types.
    """
    elements = vocabulary.elements[h.argmax(-1).cpu().numpy()] * (mask.cpu().numpy() > 0)
    first, second = np.triu_indices(mask.shape[1], 1)
    orders = torch.from_numpy(bond_orders(elements, x.cpu().numpy())[:, first, second]).long().to(logits.device)
    there = DensePairs(mask).there[..., 0]
    wrong = nn.functional.cross_entropy(logits.transpose(1, 2).float(), orders, reduction="none") * there
    return wrong.sum(1) / there.sum(1).clamp(min=1)
