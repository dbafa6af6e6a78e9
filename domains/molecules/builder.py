"""From nodes and positions to RDKit molecules."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from domains.molecules.bond_orders import BOND_TYPES, VALENCE, bond_orders
from domains.molecules.chemistry import sanitise
from domains.molecules.vocabulary import Vocabulary


def build(
    types: NDArray[Any], positions: NDArray[Any], counts: NDArray[Any], vocabulary: Vocabulary
) -> "list[Chem.Mol]":
    """Return B molecules with one 3-D conformer each, whatever their quality.

    Bonds come from `bond_orders`.

    Nothing is added or repaired: hydrogens are those of the types, so a missing bond leaves a radical. A molecule that
    RDKit cannot sanitise stays unsanitised and is not valid. `is_valid`, `is_connected` and `stable_atoms` read
    properties that are set here.

    Args:
        types: (B, N) integer types of ``vocabulary``; values beyond ``counts`` have no effect.
        positions: (B, N, 3) Å.
        counts: (B,) number of nodes of each molecule.
        vocabulary: `HEAVY` or `EXPLICIT`.
    """
    inside = np.arange(types.shape[1]) < counts[:, None]
    types = np.where(inside, types, 0)
    orders = bond_orders(np.where(inside, vocabulary.elements[types], 0), positions)
    valence = np.array([VALENCE[z] for z, _ in vocabulary.kinds])
    stable = ((orders.sum(-1) + vocabulary.hydrogens[types] == valence[types]) & inside).sum(1)

    molecule, first, second = np.nonzero(np.triu(orders))
    order = orders[molecule, first, second]
    ends = np.searchsorted(molecule, np.arange(len(types) + 1)).tolist()
    bonds = list(zip(first.tolist(), second.tolist(), order.tolist(), strict=True))
    atoms = [_atom(z, h) for z, h in vocabulary.kinds]
    x = np.ascontiguousarray(positions, np.float64)  # Conformer.SetPositions misreads other layouts and types
    with rdBase.BlockLogs():
        return [
            _assemble([atoms[t] for t in row[:n]], bonds[ends[i] : ends[i + 1]], x[i, :n], good)
            for i, (row, n, good) in enumerate(zip(types.tolist(), counts.tolist(), stable.tolist(), strict=True))
        ]


def _atom(element: int, hydrogens: int) -> Any:
    atom = Chem.Atom(element)
    atom.SetNoImplicit(True)
    atom.SetNumExplicitHs(hydrogens)
    return atom


def _assemble(atoms: Sequence[Any], bonds: Sequence[tuple[int, int, int]], x: NDArray[np.float64], stable: int) -> Any:
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
    sanitise(mol)
    mol.SetIntProp("stable_atoms", stable)
    return Chem.Mol(mol)
