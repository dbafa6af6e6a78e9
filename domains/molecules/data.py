"""Molecules for pre-training: a LightningDataModule over enumerated molecules, QM9 or files."""

from collections import Counter
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from typing_extensions import override

from domains.molecules.dataset import MoleculeDataset, to_graphs
from domains.molecules.sources import read
from domains.molecules.vocabulary import VOCABULARIES
from graft.core.distributed import rank_zero_print
from graft.dataloaders.in_memory import BatchDataset, InMemoryDataModule


class MoleculeData(InMemoryDataModule[MoleculeDataset]):
    """Molecules for pre-training, split into training and validation.

    Batches are `torch_geometric.data.Batch`.

    Args:
        source: ``enumerated`` (small organic molecules, enumerated and cached); ``qm9:train``, ``qm9:valid`` or
            ``qm9:test`` (downloaded by torch_geometric, EDM's split); or the path of a ``.npz`` in the arrays of EDM's
            QM9 files, of an ``.sdf`` or ``.xyz`` with conformers, or of a ``.smi`` or ``.csv`` with SMILES, which are
            embedded.
        max_heavy_atoms: Largest number of heavy atoms; larger molecules are left out.
        max_embedded: Number of enumerated molecules that are embedded, always the same ones; ``null`` for all.
        convention: ``heavy``: a node is a heavy atom typed by its element and number of hydrogens; ``explicit``:
            hydrogens are nodes, the convention of EDM.
        max_atoms: Largest number of nodes of a molecule; ``null`` for any.
        clean: Relax the conformers of SDF and XYZ files by MMFF94.
        batch_size: Molecules per batch.
        limit: Number of molecules that are used, chosen at random with ``seed``; ``null`` for all.
        validation: Share of the molecules in the validation part.
        seed: Seed of the split.
    """

    noun = "molecules"

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
        super().__init__(source, batch_size, limit, validation, seed)
        self.max_heavy_atoms, self.max_embedded = max_heavy_atoms, max_embedded
        self.vocabulary = VOCABULARIES[convention]
        self.max_atoms, self.clean = max_atoms, clean
        self.left_out: dict[str, int] = {}
        """Number of records of the source that cannot be used, by reason; known after `setup`."""

    @override
    def prepare_data(self) -> None:
        """Make the cache of enumerated molecules, or download QM9, on one rank."""
        if self.source == "enumerated" or self.source.startswith("qm9"):
            read(self.source, self.max_heavy_atoms, self.max_embedded)

    @override
    def read(self) -> tuple[MoleculeDataset, str]:
        arrays, unread = read(self.source, self.max_heavy_atoms, self.max_embedded, self.clean)
        molecules, unused = to_graphs(arrays, self.vocabulary, self.max_heavy_atoms, self.max_atoms)
        self.left_out = unread | dict(Counter(why for why in unused if why))
        invalid = "; ".join(f"{number} left out: {why}" for why, number in self.left_out.items())
        rank_zero_print(f"{len(molecules)} molecules from {self.source}" + (f" ({invalid})" if invalid else ""))
        return molecules, invalid

    @override
    def part(self, samples: MoleculeDataset, rows: NDArray[np.int64], training: bool) -> MoleculeDataset:
        part: MoleculeDataset = samples[rows.tolist()]
        return part

    @override
    def dataset(self, part: MoleculeDataset, training: bool) -> "Dataset[Any]":
        return BatchDataset(part, part.batch)

    def histogram(self) -> dict[int, int]:
        """Return the number of training molecules of each number of nodes."""
        counts = self.train_set.counts[torch.as_tensor(self.train_set.indices())]
        return dict(sorted(Counter(counts.tolist()).items()))

    def keys(self) -> list[str]:
        """Return the keys of the training molecules, "" for an invalid one."""
        return [self.train_set.keys[i] for i in self.train_set.indices()]
