"""Molecules as graphs of a convention."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rdkit import Chem
from torch import Tensor
from torch_geometric.data import Batch, Data, Dataset
from typing_extensions import override

from domains.molecules.builder import build
from domains.molecules.chemistry import is_connected, is_stable, is_valid, molecule_key
from domains.molecules.entries import Arrays
from domains.molecules.processes import CHUNK, map_in_processes
from domains.molecules.valence_bonds import connected
from domains.molecules.vocabulary import Vocabulary
from graft.core.progress import progress

OTHER, LARGE = "with other elements", "too large"
UNSTABLE = "not stable, valid and connected by the rule for bonds"
MISREAD = "another molecule by the rule for bonds"


class MoleculeDataset(Dataset):  # type: ignore[misc]
    """Molecules as `torch_geometric.data.Data`, for any loader.

    `batch` makes a batch of many molecules at once.

    The nodes of all molecules lie in two tensors, so that a batch is one selection instead of a loop over graphs.

    Args:
        types: (nodes,) int64 types of the vocabulary.
        pos: (nodes, 3) float32 Å, each molecule with zero centre of mass (all nodes weigh the same).
        counts: (M,) int64 number of nodes of each molecule.
        keys: M canonical SMILES (`domains.molecules.chemistry.molecule_key`).
        isomeric_keys: The same with stereochemistry; ``keys`` if not given.
    """

    def __init__(
        self, types: Tensor, pos: Tensor, counts: Tensor, keys: Sequence[str], isomeric_keys: "Sequence[str]" = ()
    ) -> None:
        super().__init__()
        self.types, self.pos, self.counts, self.keys = types, pos, counts, keys
        self.isomeric_keys = isomeric_keys or keys
        self._starts = counts.cumsum(0) - counts

    @override
    def len(self) -> int:
        return len(self.keys)

    @override
    def get(self, idx: int) -> Data:
        """Return one molecule: ``pos`` (n, 3) float32 Å, ``type`` (n,) int64, ``smiles`` its key."""
        nodes = slice(int(self._starts[idx]), int(self._starts[idx] + self.counts[idx]))
        return Data(pos=self.pos[nodes], type=self.types[nodes], smiles=self.keys[idx])

    def batch(self, positions: "list[int]") -> Batch:
        """Return the molecules at ``positions`` as `Batch.from_data_list` batches them."""
        indices = self.indices()
        chosen = torch.tensor([indices[i] for i in positions])
        counts, size = self.counts[chosen], len(positions)
        ptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        graph = torch.repeat_interleave(torch.arange(size), counts)
        nodes = torch.arange(int(ptr[-1])) + (self._starts[chosen] - ptr[:-1])[graph]
        smiles = [self.keys[i] for i in chosen.tolist()]
        batch = Batch(pos=self.pos[nodes], type=self.types[nodes], smiles=smiles, batch=graph, ptr=ptr)
        # Batch.from_data_list sets these too; batch.num_graphs, batch[i] and batch.to_data_list() need them.
        batch._num_graphs = size
        batch._slice_dict = {"pos": ptr, "type": ptr, "smiles": torch.arange(size + 1)}
        batch._inc_dict = {name: torch.zeros(size, dtype=torch.long) for name in ("pos", "type", "smiles")}
        return batch


def to_graphs(
    arrays: Arrays, vocabulary: Vocabulary, max_heavy_atoms: int, max_nodes: "int | None" = None
) -> tuple[MoleculeDataset, list[str]]:
    """Return the usable molecules, and for each of ``arrays`` the reason why not, or "".

    If hydrogens are part of the types, a molecule is usable only if the bonds that are read from its positions make it
    valid and connected, and the same molecule as its SMILES where it has one. With explicit hydrogens all are usable,
    as in EDM's data. Many molecules are checked in several processes.
    """
    total = len(arrays["num_atoms"])
    chunks = [
        ({name: array[start : start + CHUNK] for name, array in arrays.items()}, vocabulary, max_heavy_atoms, max_nodes)
        for start in range(0, max(total, 1), CHUNK)
    ]
    parts: list[MoleculeDataset] = []
    reasons: list[str] = []
    with progress("checking molecules", total, "molecule", delay=2) as bar:
        for part, why in map_in_processes(graphs_of_chunk, chunks):
            parts.append(part)
            reasons += why
            bar.update(len(why))
    types, pos, counts = (torch.cat([getattr(part, name) for part in parts]) for name in ("types", "pos", "counts"))
    keys, isomeric = ([key for part in parts for key in getattr(part, name)] for name in ("keys", "isomeric_keys"))
    return MoleculeDataset(types, pos, counts, keys, isomeric), reasons


def graphs_of_chunk(given: tuple[Arrays, Vocabulary, int, "int | None"]) -> tuple[MoleculeDataset, list[str]]:
    """Return `to_graphs` of its arguments, in this process."""
    arrays, vocabulary, max_heavy_atoms, max_nodes = given
    elements, counts = arrays["charges"], arrays["num_atoms"]
    positions = arrays["positions"].astype(np.float64)
    elements = np.where(np.arange(elements.shape[1]) < counts[:, None], elements, 0)
    formal = arrays.get("formal_charges", np.zeros_like(elements)).astype(np.int64)
    size = (elements > 1).sum(1)
    known = np.isin(elements, [0, 1, *vocabulary.elements]).all(1) & (size > 0)
    nodes = counts if vocabulary.explicit else size
    small = known & (size <= max_heavy_atoms) & (nodes <= (max_nodes or nodes))
    why = np.where(small, "", np.where(known, LARGE, OTHER)).astype(object)
    elements, positions, formal = elements[small], positions[small], formal[small]
    if vocabulary.explicit:
        types, fits = _lookup(elements, np.zeros_like(elements), np.zeros_like(elements), vocabulary)
    else:
        hydrogens, attached = _hydrogens(elements, positions)
        elements = np.where(elements > 1, elements, 0)
        types, fits = _lookup(elements, hydrogens, formal, vocabulary)
        fits &= attached
    types, positions, counts = _packed(elements > 0, types, positions)
    mols = build(types, positions, counts, vocabulary)
    if not vocabulary.explicit:
        fits &= np.array([is_stable(m) and is_valid(m) and is_connected(m) for m in mols], bool)
        why[np.flatnonzero(small)[~fits]] = UNSTABLE
        if "smiles" in arrays:
            same = np.array([_is(mol, text) for mol, text in zip(mols, arrays["smiles"][small], strict=True)], bool)
            why[np.flatnonzero(small)[fits & ~same]] = MISREAD
            fits &= same
    return _dataset(types, positions, counts, mols, fits), why.tolist()


def _is(mol: Any, smiles: str) -> bool:
    """Return True if a molecule has some SMILES, stereochemistry aside, or if there are none."""
    return not smiles or molecule_key(mol) == molecule_key(Chem.MolFromSmiles(str(smiles)))


def _dataset(
    types: NDArray[Any], positions: NDArray[Any], counts: NDArray[Any], mols: Sequence[Any], fits: NDArray[Any]
) -> MoleculeDataset:
    """Return the molecules that fit as a data set, each with zero centre of mass."""
    inside = np.arange(types.shape[1]) < counts[:, None]
    centred = positions - ((positions * inside[..., None]).sum(1) / counts[:, None])[:, None]
    inside &= fits[:, None]
    chosen = [mol for mol, fit in zip(mols, fits, strict=True) if fit]
    return MoleculeDataset(
        torch.from_numpy(types[inside]),
        torch.from_numpy(centred[inside]).float(),
        torch.from_numpy(counts[fits]),
        [molecule_key(mol) for mol in chosen],
        [molecule_key(mol, stereo=True) for mol in chosen],
    )


def _hydrogens(charges: NDArray[Any], positions: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return (M, N) hydrogens of each nearest heavy atom; (M,) True if all are bonded to it."""
    numbers, attached = np.zeros_like(charges), np.ones(len(charges), bool)
    for start in range(0, len(charges), 1024):  # limits the memory of (M, N, N) distances
        z, x = charges[start : start + 1024], positions[start : start + 1024]
        distances = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1) + np.where(z > 1, 0, np.inf)[:, None]
        nearest = distances.argmin(-1)
        bonded = connected(z, np.take_along_axis(z, nearest, -1), distances.min(-1))
        attached[start : start + 1024] = (bonded | (z != 1)).all(1)
        row, atom = np.nonzero(z == 1)
        np.add.at(numbers, (row + start, nearest[row, atom]), 1)
    return numbers, attached


def _lookup(
    elements: NDArray[Any], hydrogens: NDArray[Any], formal: NDArray[Any], vocabulary: Vocabulary
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (M, N) types of nodes, 0 for an unknown node; (M,) True if every node has a type."""
    far = int(max(4, np.abs(formal).max(initial=0)))
    table = np.full((max(elements.max(initial=0), *vocabulary.elements) + 1, elements.shape[1] + 1, 2 * far + 1), -1)
    for (element, number, charge), index in vocabulary.index.items():
        table[element, number : number + 1, charge + far] = index
    types = table[elements, hydrogens, formal + far]
    return np.maximum(types, 0), ((types >= 0) | (elements == 0)).all(1)


def _packed(inside: NDArray[Any], types: NDArray[Any], positions: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return types and positions with the nodes that are ``inside`` first, and their counts."""
    counts = inside.sum(1)
    order = np.argsort(~inside, axis=1, kind="stable")[:, : max(counts, default=1)]
    return np.take_along_axis(types, order, 1), np.take_along_axis(positions, order[..., None], 1), counts
