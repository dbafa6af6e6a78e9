"""From nodes and positions to RDKit molecules."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from domains.molecules import edm_bonds, valence_bonds
from domains.molecules.chemistry import sanitise
from domains.molecules.vocabulary import NodeType, Vocabulary

BOND_TYPES = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
"""RDKit's bond type of each order."""

Bonds = list[tuple[int, int, int]]
"""(first atom, second atom, order) of each bond of a molecule."""


def build(
    types: NDArray[Any], positions: NDArray[Any], counts: NDArray[Any], vocabulary: Vocabulary
) -> "list[Chem.Mol]":
    """Return B molecules with one 3-D conformer each, whatever their quality.

    Bonds come from `valence_bonds` if hydrogens are part of the types, and from `edm_bonds` if hydrogens are nodes.
    Nothing is repaired: a molecule that RDKit cannot sanitise stays unsanitised and is not valid. With bonds by valence
    a molecule with unpaired electrons is not valid, either. `is_valid`, `is_connected` and `stable_atoms` read
    properties that are set here. Stereochemistry is that of the positions.

    Args:
        types: (B, N) integer types of ``vocabulary``; values beyond ``counts`` have no effect.
        positions: (B, N, 3) Å.
        counts: (B,) number of nodes of each molecule.
        vocabulary: Vocabulary of the types.
    """
    inside = np.arange(types.shape[1]) < counts[:, None]
    types = np.where(inside, types, 0)
    find = _edm if vocabulary.explicit else _by_valence
    bonds, stable = find(types, positions, counts, vocabulary)
    atoms = [_atom(kind) for kind in vocabulary.kinds]
    x = np.ascontiguousarray(positions, np.float64)  # Conformer.SetPositions misreads other layouts and types
    with rdBase.BlockLogs():
        return [
            _assemble([atoms[t] for t in row[:n]], bonds[i], x[i, :n], stable[i], vocabulary.explicit)
            for i, (row, n) in enumerate(zip(types.tolist(), counts.tolist(), strict=True))
        ]


def bond_orders(
    types: NDArray[Any], positions: NDArray[Any], counts: NDArray[Any], vocabulary: Vocabulary
) -> NDArray[np.int8]:
    """Return (B, N, N) symmetric bond orders, 0 to 3, by the rule of the vocabulary; arguments as of `build`."""
    inside = np.arange(types.shape[1]) < counts[:, None]
    types = np.where(inside, types, 0)
    if vocabulary.explicit:
        return edm_bonds.bond_orders(np.where(inside, vocabulary.elements[types], 0), positions)
    orders = np.zeros((*types.shape, types.shape[1]), np.int8)
    for row, bonds in enumerate(_by_valence(types, positions, counts, vocabulary)[0]):
        for i, j, order in bonds:
            orders[row, i, j] = orders[row, j, i] = order
    return orders


def _edm(
    types: NDArray[Any], positions: NDArray[Any], counts: NDArray[Any], vocabulary: Vocabulary
) -> tuple[list[Bonds], list[int]]:
    """Return the bonds of each molecule by EDM's table, and its number of stable atoms."""
    inside = np.arange(types.shape[1]) < counts[:, None]
    orders = edm_bonds.bond_orders(np.where(inside, vocabulary.elements[types], 0), positions)
    valence = np.array([valences[0] for valences in vocabulary.valences])
    stable = ((orders.sum(-1) == valence[types]) & inside).sum(1)
    molecule, first, second = np.nonzero(np.triu(orders))
    order = orders[molecule, first, second]
    return _split(molecule, first, second, order, len(types)), stable.tolist()


def _by_valence(
    types: NDArray[Any], positions: NDArray[Any], counts: NDArray[Any], vocabulary: Vocabulary
) -> tuple[list[Bonds], list[int]]:
    """Return the bonds of each molecule by valence, and its number of atoms without leftover electrons."""
    inside = np.arange(types.shape[1]) < counts[:, None]
    elements = np.where(inside, vocabulary.elements[types], 0)
    molecule, first, second, lengths = valence_bonds.connections(elements, positions)
    bonds = _split(molecule, first, second, lengths, len(types))
    stable = []
    for row, (kinds, n) in enumerate(zip(types.tolist(), counts.tolist(), strict=True)):
        pairs = [(i, j) for i, j, _ in bonds[row]]
        valences = [vocabulary.valences[t] for t in kinds[:n]]
        found = valence_bonds.complete(valences, pairs, [length for _, _, length in bonds[row]])
        bonds[row] = [(i, j, order) for (i, j), order in zip(pairs, found.orders, strict=True)]
        stable.append(found.leftover.count(0))
    return bonds, stable


def _split(
    molecule: NDArray[Any], first: NDArray[Any], second: NDArray[Any], value: NDArray[Any], size: int
) -> list[Any]:
    """Return for each molecule the list of (first, second, value) of its pairs."""
    ends = np.searchsorted(molecule, np.arange(size + 1)).tolist()
    pairs = list(zip(first.tolist(), second.tolist(), value.tolist(), strict=True))
    return [pairs[ends[i] : ends[i + 1]] for i in range(size)]


def _atom(kind: NodeType) -> Any:
    atom = Chem.Atom(kind.element)
    atom.SetNoImplicit(True)
    atom.SetNumExplicitHs(kind.hydrogens)
    atom.SetFormalCharge(kind.charge)
    return atom


def _assemble(atoms: Sequence[Any], bonds: Bonds, x: NDArray[np.float64], stable: int, explicit: bool) -> Any:
    mol = Chem.RWMol()
    for atom in atoms:
        mol.AddAtom(atom)
    for first, second, order in bonds:
        mol.AddBond(first, second, BOND_TYPES[order])
    conformer = Chem.Conformer(len(atoms))
    conformer.Set3D(True)
    if len(atoms):
        conformer.SetPositions(x)
    mol.AddConformer(conformer)
    sanitise(mol, complete=explicit or stable == len(atoms))
    mol.SetIntProp("stable_atoms", stable)
    return Chem.Mol(mol)
