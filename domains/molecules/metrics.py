"""What a set of molecules is worth, as torchmetrics; every share is a fraction, and right over several processes."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from domains.molecules.chemistry import VOCABULARIES, is_stable, is_valid, key, stable_atoms


def key_hash(key: str) -> int:
    """A key as a signed 64-bit number, the same in every process (two of 10⁶ keys collide with chance 3·10⁻⁸)."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)


def key_hashes(keys: Iterable[str]) -> Tensor:
    """(K,) int64 hashes of the keys that are not empty (the empty key is that of molecules which are not valid)."""
    return torch.tensor([key_hash(key) for key in keys if key], dtype=torch.long)


class _Share(Metric):
    """Some of all, summed over processes."""

    full_state_update = False
    higher_is_better = True
    some: Tensor
    all: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("some", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("all", torch.tensor(0), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Some / all; 0 of nothing."""
        return self.some / self.all.clamp(min=1)


class AtomStability(_Share):
    """Stable atoms / all atoms of the set (not the mean over molecules). Nodes are counted: see `stable_atoms`.

    With hydrogens as part of the types this is heavy-atom stability, not comparable with EDM's figures.
    """

    def update(self, mols: "list[Any]") -> None:
        """Count the atoms of some molecules."""
        for mol in mols:
            stable, total = stable_atoms(mol)
            self.some += stable
            self.all += total


class MoleculeStability(_Share):
    """Molecules whose atoms are all stable / all molecules; connectivity is not asked."""

    def update(self, mols: "list[Any]") -> None:
        """Count some molecules."""
        self.some += sum(map(is_stable, mols))
        self.all += len(mols)


class Validity(_Share):
    """Molecules that RDKit sanitises / all molecules."""

    def update(self, mols: "list[Any]") -> None:
        """Count some molecules."""
        self.some += sum(map(is_valid, mols))
        self.all += len(mols)


class _Keys(Metric):
    """Hashed keys of the valid molecules."""

    full_state_update = False
    higher_is_better = True
    hashes: "list[Tensor] | Tensor"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("hashes", [], dist_reduce_fx="cat")

    def update(self, mols: "list[Any]") -> None:
        """Note the keys of some molecules."""
        assert isinstance(self.hashes, list)
        self.hashes.append(key_hashes(map(key, mols)).to(self.device))

    def _noted(self) -> Tensor:
        return dim_zero_cat(self.hashes) if len(self.hashes) else torch.zeros(0, dtype=torch.long, device=self.device)

    def _distinct(self) -> Tensor:
        distinct: Tensor = self._noted().unique()  # type: ignore[no-untyped-call]
        return distinct


class Uniqueness(_Keys):
    """Distinct keys / valid molecules; 0 if there are none."""

    def compute(self) -> Tensor:
        """The share."""
        return torch.tensor(len(self._distinct()) / max(1, len(self._noted())), device=self.device)


class ValidAndUnique(_Keys):
    """Distinct keys / all molecules: validity times uniqueness, neither of which can be had at the other's cost."""

    watched = False  # both of its factors are
    all: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("all", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, mols: "list[Any]") -> None:
        """Note the keys of some molecules."""
        super().update(mols)
        self.all += len(mols)

    def compute(self) -> Tensor:
        """The share."""
        return len(self._distinct()) / self.all.clamp(min=1)


class Novelty(_Keys):
    """Distinct keys that are not known / distinct keys; 0 if there are none.

    Args:
        known: (K,) int64 `key_hashes` of the training molecules, made by the same distance rule.
        **kwargs: Of `torchmetrics.Metric`.
    """

    known: Tensor

    def __init__(self, known: Tensor, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.register_buffer("known", known, persistent=False)

    def compute(self) -> Tensor:
        """The share."""
        distinct = self._distinct()
        new = int((~torch.isin(distinct, self.known)).sum())
        return torch.tensor(new / max(1, len(distinct)), device=self.device)


class AtomTypes(Metric):
    """Frequency of each type of node; it shows what a reward drew the set towards.

    Args:
        convention: Whose types: ``heavy`` (C, CH, CH2, ...) or ``explicit`` (H, C, N, O, F). Atoms of no such type are
            not counted.
        **kwargs: Of `torchmetrics.Metric`.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, convention: Literal["heavy", "explicit"] = "heavy", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary = VOCABULARIES[convention]
        self.add_state("counts", torch.zeros(len(self.vocabulary), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, mols: "list[Any]") -> None:
        """Count the atoms of some molecules."""
        kinds = ((atom.GetAtomicNum(), atom.GetTotalNumHs()) for mol in mols for atom in mol.GetAtoms())
        types = [self.vocabulary.index[kind] for kind in kinds if kind in self.vocabulary.index]
        counted = torch.bincount(torch.tensor(types, dtype=torch.long), minlength=len(self.vocabulary))
        self.counts += counted.to(self.device)

    def compute(self) -> dict[str, Tensor]:
        """Fraction of each type by its name; all 0 of nothing."""
        shares = self.counts / self.counts.sum().clamp(min=1)
        return dict(zip(self.vocabulary.names, shares, strict=True))
