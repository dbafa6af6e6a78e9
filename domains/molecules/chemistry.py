"""From atoms and positions to molecules: bonds by distance, and what is judged on them (validity, stability, key)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

# What is computed once per molecule is kept as a molecule property, and must survive the way to another process.
Chem.SetDefaultPickleProperties(Chem.PropertyPickleOptions.AllProps)

VALENCE = {1: 1, 6: 4, 7: 3, 8: 2, 9: 1}
"""Bonds of a stable neutral atom by atomic number (H, C, N, O, F)."""

BOND_TYPES = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
"""RDKit's bond type of each order."""

# Typical bond lengths in pm (single, double, triple) by atomic numbers, as used by EDM (Hoogeboom et al., 2022).
_LENGTHS: dict[tuple[int, int], tuple[int, ...]] = {
    (1, 1): (74,),
    (1, 6): (109,),
    (1, 7): (101,),
    (1, 8): (96,),
    (1, 9): (92,),
    (6, 6): (154, 134, 120),
    (6, 7): (147, 129, 116),
    (6, 8): (143, 120, 113),
    (6, 9): (135,),
    (7, 7): (145, 125, 110),
    (7, 8): (140, 121),
    (7, 9): (136,),
    (8, 8): (148, 121),
    (8, 9): (142,),
    (9, 9): (142,),
}
_MARGINS = (10, 5, 3)  # pm above the typical single, double, triple bond that still count as one


def _limits() -> NDArray[np.float64]:
    """(3, 10, 10) Å: two atoms have a bond of order >= k + 1 where they are nearer than entry k; 0 = never."""
    limits = np.zeros((3, 10, 10))
    for (a, b), lengths in _LENGTHS.items():
        for k, length in enumerate(lengths):
            limits[k, a, b] = limits[k, b, a] = (length + _MARGINS[k]) / 100
    return limits


_LIMITS = _limits()


@dataclass(frozen=True)
class Vocabulary:
    """The kinds of nodes of a convention.

    Attributes:
        name: The convention: ``heavy`` (hydrogens are part of a node's type) or ``explicit`` (they are nodes).
        kinds: (atomic number, attached hydrogens) of each type, in the order of the type index.
    """

    name: str
    kinds: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.kinds)

    @cached_property
    def elements(self) -> NDArray[np.int64]:
        """(types,) atomic number of each type."""
        return np.array([element for element, _ in self.kinds])

    @cached_property
    def hydrogens(self) -> NDArray[np.int64]:
        """(types,) hydrogens that each type carries and that are no nodes."""
        return np.array([hydrogens for _, hydrogens in self.kinds])

    @cached_property
    def index(self) -> dict[tuple[int, int], int]:
        """Type of each (atomic number, attached hydrogens)."""
        return {kind: i for i, kind in enumerate(self.kinds)}

    @cached_property
    def symbols(self) -> list[str]:
        """Element of each type."""
        table = Chem.GetPeriodicTable()
        return [str(table.GetElementSymbol(z)) for z, _ in self.kinds]

    @cached_property
    def names(self) -> list[str]:
        """Name of each type, such as ``CH3``."""
        table = Chem.GetPeriodicTable()
        return [table.GetElementSymbol(z) + ("", "H", "H2", "H3")[h] for z, h in self.kinds]


HEAVY = Vocabulary("heavy", tuple((z, h) for z, most in ((6, 3), (7, 2), (8, 1), (9, 0)) for h in range(most + 1)))
"""Node = heavy atom typed by its element and number of hydrogens: C CH CH2 CH3 N NH NH2 O OH F."""
EXPLICIT = Vocabulary("explicit", tuple((z, 0) for z in (1, 6, 7, 8, 9)))
"""Node = atom, hydrogens included, in EDM's order: H C N O F."""
VOCABULARIES = {vocabulary.name: vocabulary for vocabulary in (HEAVY, EXPLICIT)}


def bond_orders(elements: NDArray[Any], positions: NDArray[Any]) -> NDArray[np.int8]:
    """Bond orders by distance, EDM's strict and nested rule.

    Single if d < single + 10 pm, double if also d < double + 5 pm, triple if also d < triple + 3 pm.

    Args:
        elements: (B, N) atomic numbers of H, C, N, O, F; 0 is padding and bonds to nothing.
        positions: (B, N, 3) Å.

    Returns:
        (B, N, N) symmetric, 0 to 3.
    """
    batch, nodes = elements.shape
    orders = np.zeros((batch, nodes, nodes), np.int8)
    for start in range(0, batch, 1024):  # bounds the memory of (B, N, N) doubles
        part = slice(start, start + 1024)
        # Differences, not the Gram matrix: near the limits a cancellation would decide.
        x = positions[part].astype(np.float64)
        distances = np.sqrt(np.square(x[:, :, None] - x[:, None]).sum(-1))
        rows, columns = elements[part, :, None], elements[part, None, :]
        for limit in _LIMITS:
            orders[part] += distances < limit[rows, columns]
    orders[:, np.arange(nodes), np.arange(nodes)] = 0
    return orders


def build(
    types: NDArray[Any], positions: NDArray[Any], counts: NDArray[Any], vocabulary: Vocabulary
) -> "list[Chem.Mol]":
    """The molecules that nodes and positions are, whatever their quality; bonds come from `bond_orders`.

    Nothing is added and nothing mended: hydrogens are those of the types, so a missing bond leaves a radical. A
    molecule that RDKit cannot sanitise is kept unsanitised and is not valid.

    Args:
        types: (B, N) integer types of ``vocabulary``; anything beyond ``counts``.
        positions: (B, N, 3) Å.
        counts: (B,) number of nodes of each molecule.
        vocabulary: `HEAVY` or `EXPLICIT`.

    Returns:
        B molecules with one 3-D conformer each; `is_valid`, `is_connected` and `stable_atoms` read what was found here.
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
    x = np.ascontiguousarray(positions, np.float64)  # Conformer.SetPositions reads anything else wrongly
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
    _sanitise(mol)
    mol.SetIntProp("stable_atoms", stable)
    return Chem.Mol(mol)


def _sanitise(mol: Any) -> None:
    """Sanitise in place and set the properties ``valid`` and ``connected``."""
    valid = mol.GetNumAtoms() > 0 and Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE
    if not valid:  # what was begun is ended without complaint, so that drawing and writing work
        mol.UpdatePropertyCache(strict=False)
    mol.SetBoolProp("valid", valid)
    mol.SetBoolProp("connected", len(Chem.GetMolFrags(mol)) == 1)


def _judged(mol: Any, name: str) -> Any:
    """``mol``, judged now if it was made elsewhere (read from a file, parsed from SMILES)."""
    if not mol.HasProp(name):
        copy = Chem.RWMol(mol)
        with rdBase.BlockLogs():
            _sanitise(copy)
            if copy.GetBoolProp("valid"):
                Chem.Kekulize(copy, clearAromaticFlags=True)
        bonds = [(a.GetAtomicNum(), a.GetTotalNumHs(), sum(b.GetBondTypeAsDouble() for b in a.GetBonds()))
                 for a in copy.GetAtoms()]  # fmt: skip
        mol.SetIntProp("stable_atoms", sum(h + order == VALENCE.get(z) for z, h, order in bonds))
        mol.SetBoolProp("valid", copy.GetBoolProp("valid"))
        mol.SetBoolProp("connected", copy.GetBoolProp("connected"))
    return mol


def is_valid(mol: Any) -> bool:
    """RDKit sanitises the molecule (several fragments and radicals are allowed)."""
    return bool(_judged(mol, "valid").GetBoolProp("valid"))


def is_connected(mol: Any) -> bool:
    """The molecule is one fragment."""
    return bool(_judged(mol, "connected").GetBoolProp("connected"))


def stable_atoms(mol: Any) -> tuple[int, int]:
    """(stable atoms, atoms): an atom is stable when bond orders + hydrogens equal its valence. Nodes are counted."""
    return int(_judged(mol, "stable_atoms").GetIntProp("stable_atoms")), int(mol.GetNumAtoms())


def is_stable(mol: Any) -> bool:
    """All atoms are stable; connectivity is not asked. A molecule without atoms is not stable."""
    stable, total = stable_atoms(mol)
    return 0 < total == stable


def key(mol: Any) -> str:
    """Canonical SMILES of the largest fragment, without explicit hydrogens and stereo marks; '' if not valid.

    Equal molecules have equal keys in both conventions.
    """
    if not mol.HasProp("key"):
        mol.SetProp("key", _key(mol) if is_valid(mol) else "")
    return str(mol.GetProp("key"))


def _key(mol: Any) -> str:
    fragments = [mol] if is_connected(mol) else Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False)
    most = max(fragment.GetNumAtoms() for fragment in fragments)
    with rdBase.BlockLogs():
        # Among fragments of one size the first in the alphabet: the order of the nodes must not matter.
        return min(
            str(Chem.MolToSmiles(Chem.RemoveHs(fragment, sanitize=False), isomericSmiles=False))
            for fragment in fragments
            if fragment.GetNumAtoms() == most
        )
