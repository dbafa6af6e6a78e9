"""Filters of molecules before the acceptance rule: windows of descriptors, by the keys, which are SMILES."""

from collections.abc import Sequence

import torch
from rdkit import Chem, rdBase
from rdkit.Chem import Descriptors
from torch import Generator, Tensor

from graft.errors import GraftError
from graft.filters import AcceptedHistory, Candidates, Filter


class DescriptorRange(Filter):
    """A draw whose descriptor lies outside a window is refused, as is one that is not valid.

    Args:
        descriptor: A name of `rdkit.Chem.Descriptors`, such as ``MolLogP``, ``MolWt``, ``RingCount``.
        low: Lower end; ``null``: none.
        high: Upper end; ``null``: none.
    """

    hint = "widen the window, draw more, or leave the filter out"

    def __init__(self, descriptor: str, low: "float | None" = None, high: "float | None" = None) -> None:
        known = dict(Descriptors.descList)
        if descriptor not in known:
            raise GraftError(f"RDKit has no descriptor {descriptor!r}: see rdkit.Chem.Descriptors.descList")
        if (low is None and high is None) or (low is not None and high is not None and low > high):
            raise GraftError(f"the window of {descriptor} is {low} to {high}: give low, high or both, low <= high")
        self.descriptor, self.low, self.high, self._of = descriptor, low, high, known[descriptor]

    def __call__(
        self, draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        """See `Filter.__call__`."""
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

    def __str__(self) -> str:
        ends = [f"{sign} {end:g}" for sign, end in (("≥", self.low), ("≤", self.high)) if end is not None]
        return f"{self.descriptor} {' and '.join(ends)}"
