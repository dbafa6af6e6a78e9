"""Metrics of a set of molecules, as torchmetrics.

Every share is a fraction, also over several ranks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from domains.molecules.chemistry import is_connected, is_stable, is_valid, molecule_key, stable_atoms
from domains.molecules.vocabulary import NodeType, find_vocabulary
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
    """Valid molecules / all molecules (`domains.molecules.chemistry.is_valid`)."""

    @override
    def update(self, mols: "list[Any]") -> None:
        self.some += sum(map(is_valid, mols))
        self.all += len(mols)


class ValidAndConnected(Share):
    """Molecules that are valid and one fragment / all molecules."""

    @override
    def update(self, mols: "list[Any]") -> None:
        self.some += sum(is_valid(mol) and is_connected(mol) for mol in mols)
        self.all += len(mols)


class _Keys(Collected):
    """Hashed keys of the valid molecules.

    Args:
        stereo: Keys have the marks of stereochemistry.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(self, stereo: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stereo = stereo

    @override
    def update(self, mols: "list[Any]") -> None:
        self.collect(key_hashes(molecule_key(mol, self.stereo) for mol in mols))

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

    monitored = False  # both of its factors are monitored
    all: Tensor

    def __init__(self, stereo: bool = False, **kwargs: Any) -> None:
        super().__init__(stereo, **kwargs)
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
        known: (K,) int64 `key_hashes` of the training molecules, made by the same rule for bonds.
        stereo: Keys have the marks of stereochemistry.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    known: Tensor

    def __init__(self, known: Tensor, stereo: bool = False, **kwargs: Any) -> None:
        super().__init__(stereo, **kwargs)
        self.register_buffer("known", known, persistent=False)

    @override
    def compute(self) -> Tensor:
        distinct = self._distinct()
        new = int((~torch.isin(distinct, self.known)).sum())
        return torch.tensor(new / max(1, len(distinct)), device=self.device)


class AtomTypes(Frequencies):
    """Frequency of each type of node; it shows which types a reward favours.

    Args:
        convention: Convention of the nodes, as in `domains.molecules.Molecules`. Atoms of no such type are not counted.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    def __init__(self, convention: "str | Sequence[str]" = "heavy", **kwargs: Any) -> None:
        vocabulary = find_vocabulary(convention)
        super().__init__(vocabulary.names, **kwargs)
        self.vocabulary = vocabulary

    @override
    def update(self, mols: "list[Any]") -> None:
        kinds = (
            NodeType(atom.GetAtomicNum(), atom.GetTotalNumHs(), atom.GetFormalCharge())
            for mol in mols
            for atom in mol.GetAtoms()
        )
        types = [self.vocabulary.index[kind] for kind in kinds if kind in self.vocabulary.index]
        self.count(torch.tensor(types, dtype=torch.long))
