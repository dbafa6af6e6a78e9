"""Metrics of a set of molecules, as torchmetrics.

Every share is a fraction, also over several ranks.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import override

from domains.molecules.chemistry import is_stable, is_valid, key, stable_atoms
from domains.molecules.vocabulary import VOCABULARIES
from graft.domain.metrics import Collected, Frequencies, Share
from graft.domain.training_set import key_hashes


class AtomStability(Share):
    """Stable atoms / all atoms of the set, not the mean over molecules.

    Nodes are counted (`stable_atoms`).

    If hydrogens are part of the types this is heavy-atom stability, not comparable with EDM's figures.
    """

    @override
    def update(self, mols: "list[Any]") -> None:
        for mol in mols:
            stable, total = stable_atoms(mol)
            self.some += stable
            self.all += total


class MoleculeStability(Share):
    """Molecules with only stable atoms / all molecules, connected or not."""

    @override
    def update(self, mols: "list[Any]") -> None:
        self.some += sum(map(is_stable, mols))
        self.all += len(mols)


class Validity(Share):
    """Molecules that RDKit sanitises / all molecules."""

    @override
    def update(self, mols: "list[Any]") -> None:
        self.some += sum(map(is_valid, mols))
        self.all += len(mols)


class _Keys(Collected):
    """Hashed keys of the valid molecules."""

    higher_is_better = True

    @override
    def update(self, mols: "list[Any]") -> None:
        self.collect(key_hashes(map(key, mols)))

    def _all(self) -> Tensor:
        return self.collected(torch.zeros(0, dtype=torch.long, device=self.device))

    def _distinct(self) -> Tensor:
        distinct: Tensor = self._all().unique()  # type: ignore[no-untyped-call]
        return distinct


class Uniqueness(_Keys):
    """Distinct keys / valid molecules; 0 if there are none."""

    @override
    def compute(self) -> Tensor:
        return torch.tensor(len(self._distinct()) / max(1, len(self._all())), device=self.device)


class ValidAndUnique(_Keys):
    """Distinct keys / all molecules: validity times uniqueness.

    It penalises trading one for the other.
    """

    watched = False  # both of its factors are monitored
    all: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("all", torch.tensor(0), dist_reduce_fx="sum")

    @override
    def update(self, mols: "list[Any]") -> None:
        super().update(mols)
        self.all += len(mols)

    @override
    def compute(self) -> Tensor:
        return len(self._distinct()) / self.all.clamp(min=1)


class Novelty(_Keys):
    """Distinct keys that are not in the training set / distinct keys; 0 if there are none.

    Args:
        known: (K,) int64 `key_hashes` of the training molecules, made by the same distance rule.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    known: Tensor

    def __init__(self, known: Tensor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("known", known, persistent=False)

    @override
    def compute(self) -> Tensor:
        distinct = self._distinct()
        new = int((~torch.isin(distinct, self.known)).sum())
        return torch.tensor(new / max(1, len(distinct)), device=self.device)


class AtomTypes(Frequencies):
    """Frequency of each type of node; it shows which types a reward favours.

    Args:
        convention: ``heavy`` (C, CH, CH2, ...) or ``explicit`` (H, C, N, O, F). Atoms of no such type are not counted.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    def __init__(self, convention: Literal["heavy", "explicit"] = "heavy", **kwargs: Any) -> None:
        super().__init__(VOCABULARIES[convention].names, **kwargs)
        self.vocabulary = VOCABULARIES[convention]

    @override
    def update(self, mols: "list[Any]") -> None:
        kinds = ((atom.GetAtomicNum(), atom.GetTotalNumHs()) for mol in mols for atom in mol.GetAtoms())
        types = [self.vocabulary.index[kind] for kind in kinds if kind in self.vocabulary.index]
        self.count(torch.tensor(types, dtype=torch.long))
