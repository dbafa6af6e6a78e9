"""Auxiliary loss on data: cross-entropy of the bonds in x_0, next to the denoising loss.

Hundredths of an Ångström decide a bond, and the squared error of positions hardly sees them. The cross-entropy of the
pairs' bond orders in x_0 teaches the features of pairs early which atoms are bonded (as in MiDi, Vignac et al. 2023,
which generates bonds; samplers here do not use them).
"""

import numpy as np
import torch
from torch import Tensor, nn

from domains.molecules.builder import bond_orders
from domains.molecules.vocabulary import Vocabulary


def cross_entropy(logits: Tensor, x: Tensor, h: Tensor, mask: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Return (B,) mean cross-entropy of the pairs' predicted bonds with those of the rule of the vocabulary.

    Args:
        logits: (B, P, 4) of the P pairs of N rows in the order of `pairs.DensePairs`, or (E, 4) of the pairs of atoms
            in the order of `pairs.complete_graph_pairs`.
        x: (B, N, 3) Å, data.
        h: (B, N, types) data.
        mask: (B, N) 1 where an atom is.
        vocabulary: Vocabulary of the types.
    """
    first, second = np.triu_indices(mask.shape[1], 1)
    there = mask[:, first] * mask[:, second] > 0
    counts = mask.sum(1).long().cpu().numpy()
    found = bond_orders(h.argmax(-1).cpu().numpy(), x.cpu().numpy(), counts, vocabulary)
    orders = torch.from_numpy(found[:, first, second]).long().to(logits.device)[there]
    predicted = (logits if logits.ndim == 2 else logits[there]).float()
    wrong = torch.zeros(there.shape, dtype=predicted.dtype, device=predicted.device)
    wrong = wrong.masked_scatter(there, nn.functional.cross_entropy(predicted, orders, reduction="none"))
    return wrong.sum(1) / there.sum(1).clamp(min=1)
