"""Filters of molecules by descriptors.

They are computed from the keys, which are SMILES.
"""

from collections.abc import Sequence

import torch
from rdkit import Chem, rdBase
from torch import Generator, Tensor
from typing_extensions import override

from domains.molecules.rdkit_descriptors import find_descriptor
from graft.core import limits
from graft.errors import GraftError
from graft.filters import AcceptedHistory, Candidates, Filter


class DescriptorRange(Filter):
    """Reject draws with a descriptor outside a range, and invalid draws.

    Args:
        descriptor: A name of `rdkit.Chem.Descriptors`, such as ``MolLogP``, ``MolWt``, ``RingCount``.
        low: Lower end; ``null`` for none.
        high: Upper end; ``null`` for none.
    """

    hint = "widen the range, draw more, or leave the filter out"

    def __init__(self, descriptor: str, low: "float | None" = None, high: "float | None" = None) -> None:
        self._of = find_descriptor(descriptor)
        limits.check("low", low)
        limits.check("high", high)
        if (low is None and high is None) or (low is not None and high is not None and low > high):
            raise GraftError(f"the range of {descriptor} is {low} to {high}: give low, high or both, low <= high")
        self.descriptor, self.low, self.high = descriptor, low, high

    @override
    def __call__(
        self, draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        inside = {key: self._inside(key) for key in set(draws.keys)}
        left = draws.eligible & torch.tensor([inside[key] for key in draws.keys], dtype=torch.bool)
        return left, torch.zeros_like(left)

    def _inside(self, smiles: str) -> bool:
        with rdBase.BlockLogs():
            mol = Chem.MolFromSmiles(smiles) if smiles else None
        if mol is None:
            return False
        value = float(self._of(mol))
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    @override
    def __str__(self) -> str:
        ends = [f"{sign} {end:g}" for sign, end in (("≥", self.low), ("≤", self.high)) if end is not None]
        return f"{self.descriptor} {' and '.join(ends)}"
