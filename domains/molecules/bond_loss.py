"""What a network says of the bonds in x_0: asked in training on data, beside the denoising loss, and by no sampler.

A bond is decided by hundredths of an Ångström, which the squared error of positions hardly sees; the cross-entropy of
the pairs' bond orders in x_0 teaches the pairs' features what is bonded early on (as in MiDi, Vignac et al. 2023, whose
bonds are generated; here only read).
"""

import numpy as np
import torch
from torch import Tensor, nn

from domains.molecules.chemistry import Vocabulary, bond_orders


def cross_entropy(logits: Tensor, x: Tensor, h: Tensor, mask: Tensor, vocabulary: Vocabulary) -> Tensor:
    """(B,) mean cross-entropy over the pairs of atoms of what was said of their bonds, by the distance rule.

    Args:
        logits: (B, P, 4) of the P pairs of N rows as `backbone.DensePairs` has them, or (E, 4) of the pairs of atoms
            that are there, as `backbone.complete_pairs` has them.
        x: (B, N, 3) Å, data.
        h: (B, N, types) data.
        mask: (B, N).
        vocabulary: Of the types.
    """
    first, second = np.triu_indices(mask.shape[1], 1)
    there = mask[:, first] * mask[:, second] > 0
    elements = vocabulary.elements[h.argmax(-1).cpu().numpy()] * (mask.cpu().numpy() > 0)
    orders = torch.from_numpy(bond_orders(elements, x.cpu().numpy())[:, first, second]).long().to(logits.device)[there]
    said = (logits if logits.ndim == 2 else logits[there]).float()
    wrong = torch.zeros(there.shape, dtype=said.dtype, device=said.device)
    wrong = wrong.masked_scatter(there, nn.functional.cross_entropy(said, orders, reduction="none"))
    return wrong.sum(1) / there.sum(1).clamp(min=1)
