"""Molecules for pre-training: a LightningDataModule over enumerated molecules, QM9 or files."""

from collections import Counter
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader
from torch_geometric.data import Batch

from domains.molecules.chemistry import VOCABULARIES
from domains.molecules.dataset import MoleculeDataset, to_graphs
from domains.molecules.sources import read
from graft.batches.training_data import identity_collate
from graft.distributed import rank_zero_print
from graft.errors import GraftError


class _Batched(torch.utils.data.Dataset[Any]):
    """Molecules that a `torch.utils.data.DataLoader` fetches by the batch."""

    def __init__(self, molecules: MoleculeDataset) -> None:
        self.molecules = molecules

    def __len__(self) -> int:
        return len(self.molecules)

    def __getitem__(self, index: int) -> Any:
        return self.molecules[index]

    def __getitems__(self, indices: "list[int]") -> Batch:
        return self.molecules.batch(indices)


class MoleculeData(LightningDataModule):
    """Molecules for pre-training, split into training and validation; batches are `torch_geometric.data.Batch`.

    Args:
        source: ``enumerated`` (small organic molecules made here, cached); ``qm9:train``, ``qm9:valid`` or ``qm9:test``
            (downloaded by torch_geometric, EDM's split); or the path of a ``.npz`` in the arrays of EDM's QM9 files, of
            an ``.sdf`` or ``.xyz`` with conformers, of a ``.smi`` or ``.csv`` with SMILES, which are embedded.
        max_heavy_atoms: Larger molecules are left out (``enumerated``: not made).
        max_embedded: Embed only so many of the enumerated molecules, always the same ones; ``null``: all.
        convention: ``heavy``: a node is a heavy atom typed by its element and number of hydrogens; ``explicit``:
            hydrogens are nodes, the convention of EDM.
        max_atoms: Molecules of more nodes are left out; ``null``: of any number.
        clean: Relax the conformers of SDF and XYZ files by MMFF94.
        batch_size: Molecules per batch.
        limit: Use only this many molecules, drawn with ``seed``.
        validation: Share that is kept for validation.
        seed: Of the split.
    """

    def __init__(
        self,
        source: str = "enumerated",
        max_heavy_atoms: int = 7,
        max_embedded: "int | None" = None,
        convention: Literal["heavy", "explicit"] = "heavy",
        max_atoms: "int | None" = None,
        clean: bool = False,
        batch_size: int = 128,
        limit: "int | None" = None,
        validation: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.source, self.max_heavy_atoms, self.max_embedded = source, max_heavy_atoms, max_embedded
        self.vocabulary = VOCABULARIES[convention]
        self.max_atoms, self.clean = max_atoms, clean
        self.batch_size, self.limit, self.validation, self.seed = batch_size, limit, validation, seed
        self.left_out: dict[str, int] = {}
        """How many records of the source were left out, by reason; known after `setup`."""
        self._parts: tuple[MoleculeDataset, MoleculeDataset] | None = None

    def prepare_data(self) -> None:
        """Make the cache of enumerated molecules, or download QM9, in one process."""
        if self.source == "enumerated" or self.source.startswith("qm9"):
            read(self.source, self.max_heavy_atoms, self.max_embedded)

    def setup(self, stage: "str | None" = None) -> None:
        """Read and split the molecules, once.

        Raises:
            GraftError: The source cannot be read, or too few of its molecules can be used.
        """
        if self._parts is not None:
            return
        arrays, unread = read(self.source, self.max_heavy_atoms, self.max_embedded, self.clean)
        molecules, unused = to_graphs(arrays, self.vocabulary, self.max_heavy_atoms, self.max_atoms)
        self.left_out = unread | dict(Counter(why for why in unused if why))
        told = "; ".join(f"{number} left out: {why}" for why, number in self.left_out.items())
        rank_zero_print(f"{len(molecules)} molecules from {self.source}" + (f" ({told})" if told else ""))
        order = np.random.default_rng(self.seed).permutation(len(molecules))[: self.limit].tolist()
        held_out = max(1, round(len(order) * self.validation))
        if len(order) <= held_out:
            raise GraftError(
                f"only {len(order)} molecules of {self.source!r} can be used, too few to train on ({told})"
            )
        self._parts = molecules[order[held_out:]], molecules[order[:held_out]]

    @property
    def train_set(self) -> MoleculeDataset:
        """The training molecules."""
        self.setup()
        assert self._parts is not None
        return self._parts[0]

    @property
    def val_set(self) -> MoleculeDataset:
        """The molecules of the validation part."""
        self.setup()
        assert self._parts is not None
        return self._parts[1]

    def histogram(self) -> dict[int, int]:
        """How many training molecules there are of each number of nodes."""
        counts = self.train_set.counts[torch.as_tensor(self.train_set.indices())]
        return dict(sorted(Counter(counts.tolist()).items()))

    def keys(self) -> list[str]:
        """Keys of the training molecules, made by the distance rule; '' where it finds no valid molecule."""
        return [self.train_set.keys[i] for i in self.train_set.indices()]

    def train_dataloader(self) -> "DataLoader[Any]":
        """Shuffled batches."""
        return DataLoader(_Batched(self.train_set), self.batch_size, shuffle=True, collate_fn=identity_collate)

    def val_dataloader(self) -> "DataLoader[Any]":
        """Batches of the validation part."""
        return DataLoader(_Batched(self.val_set), self.batch_size, collate_fn=identity_collate)
