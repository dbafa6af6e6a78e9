"""Molecules for pre-training: a LightningDataModule over enumerated molecules, QM9 or files."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from typing_extensions import override

from domains.molecules.conformers import SECONDS
from domains.molecules.dataset import MoleculeDataset, to_graphs
from domains.molecules.entries import Reading
from domains.molecules.sources import SourceMolecules, read_source
from domains.molecules.standardise import Standard
from domains.molecules.vocabulary import Convention, find_vocabulary
from graft.core import limits
from graft.core.distributed import rank_zero_print
from graft.dataloaders.in_memory import BatchDataset, InMemoryDataModule
from graft.io.invalid_records import check_invalid, describe_invalid


class MoleculeData(InMemoryDataModule[MoleculeDataset]):
    """Molecules for pre-training, split into training and validation.

    Batches are `torch_geometric.data.Batch`.

    Args:
        source: ``enumerated`` (small organic molecules, enumerated and cached); ``qm9:train``, ``qm9:valid`` or
            ``qm9:test`` (downloaded by torch_geometric, EDM's split); or the path of a ``.npz`` in the arrays of EDM's
            QM9 files, of an ``.sdf`` or ``.xyz`` with conformers, or of a ``.smi``, ``.csv``, ``.tsv`` or ``.txt`` with
            SMILES, which are embedded by all cores and cached. ``.gz`` may follow.
        max_heavy_atoms: Largest number of heavy atoms; larger molecules are left out.
        max_embedded: Number of enumerated molecules or SMILES that are embedded, always the same ones; ``null`` for
            all.
        convention: Convention of the nodes, as in `domains.molecules.Molecules`.
        max_atoms: Largest number of nodes of a molecule; ``null`` for any.
        clean: Relax the conformers of SDF and XYZ files by MMFF94.
        smiles_column: Column of the SMILES in a table; ``null`` for a column of that name.
        largest_fragment: Keep the largest fragment of a salt or mixture, which is left out otherwise.
        neutralise: Remove charges by adding and removing protons.
        embedding_seconds: Limit of the embedding of one molecule.
        embedding_workers: Number of processes that embed; ``null`` for the number of cores.
        max_invalid_fraction: Largest share of records that cannot be used.
        batch_size: Molecules per batch.
        limit: Number of molecules that are used, chosen at random with ``seed``; ``null`` for all.
        val_fraction: Share of the molecules in the validation part.
        seed: Seed of the split.
    """

    noun = "molecules"

    def __init__(
        self,
        source: str = "enumerated",
        max_heavy_atoms: int = 7,
        max_embedded: "int | None" = None,
        convention: Convention = "heavy",
        max_atoms: "int | None" = None,
        clean: bool = False,
        smiles_column: "str | None" = None,
        largest_fragment: bool = False,
        neutralise: bool = False,
        embedding_seconds: float = SECONDS,
        embedding_workers: "int | None" = None,
        max_invalid_fraction: float = 0.5,
        batch_size: int = 128,
        limit: "int | None" = None,
        val_fraction: float = 0.05,
        seed: int = 0,
    ) -> None:
        super().__init__(source, batch_size, limit, val_fraction, seed)
        limits.check("data.max_heavy_atoms", max_heavy_atoms, 1)
        limits.check("data.max_embedded", max_embedded, 1)
        limits.check("data.max_atoms", max_atoms, 1)
        self.max_heavy_atoms, self.max_embedded = max_heavy_atoms, max_embedded
        self.vocabulary = find_vocabulary(convention)
        self.max_atoms, self.clean = max_atoms, clean
        limits.check("data.max_invalid_fraction", max_invalid_fraction, 0, 1)
        self.max_invalid_fraction = max_invalid_fraction
        standard = Standard(self.vocabulary, max_heavy_atoms, max_atoms, largest_fragment, neutralise)
        self.reading = Reading(standard, smiles_column, max_embedded, embedding_seconds, embedding_workers)
        self.left_out: list[tuple[int, str]] = []
        """(record, reason) of the records that cannot be used; known after `setup`."""
        self._found: SourceMolecules | None = None

    @override
    def prepare_data(self) -> None:
        """Enumerate, embed or download the molecules on one rank; the other ranks find them in the cache."""
        if Path(self.source).suffix != ".npz":
            self._found = self._read_source()

    def _read_source(self) -> SourceMolecules:
        return read_source(self.source, self.max_heavy_atoms, self.max_embedded, self.clean, self.reading)

    @override
    def read(self) -> tuple[MoleculeDataset, str]:
        found = self._found or self._read_source()
        self._found = None
        molecules, unused = to_graphs(found.arrays, self.vocabulary, self.max_heavy_atoms, self.max_atoms)
        rows = zip(found.numbers, found.titles, unused, strict=True)
        unfit = [(number, f"{why}: {title}" if title else why) for number, title, why in rows if why]
        self.left_out = sorted([*found.left_out, *unfit])
        invalid = describe_invalid(self.left_out)
        check_invalid(
            len(molecules), self.left_out, self.max_invalid_fraction, self.source, "data.max_invalid_fraction"
        )
        remarks = [*([invalid] if invalid else []), *found.notes]
        more = f" ({'; '.join(remarks)})" if remarks else ""
        rank_zero_print(f"{len(molecules)} molecules from {self.source}{more}")
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

    def keys(self, stereo: bool = False) -> list[str]:
        """Return the keys of the training molecules, with stereochemistry on request, "" for an invalid one."""
        keys = self.train_set.isomeric_keys if stereo else self.train_set.keys
        return [keys[i] for i in self.train_set.indices()]
