"""Bonds of a molecule that the distance rule reads otherwise than the molecule's own file."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from rdkit import Chem, rdBase

from domains.molecules.chemistry import bond_orders

WORDS = {0: "no bond", 1: "a single bond", 2: "a double bond", 3: "a triple bond"}


class BondMismatch(NamedTuple):
    """Two atoms and what is said of their bond.

    Attributes:
        ends: The atoms, as ``C1 and C2``, counted from 1.
        distance: Å.
        given: The file's bond, as ``an aromatic bond`` or ``no bond``.
        found: The distance rule's.
    """

    ends: str
    distance: float
    given: str
    found: str


def first_bond_mismatch(mol: Any, atoms: Sequence[int]) -> "BondMismatch | None":
    """The first pair of ``atoms`` whose bond is read otherwise; None if there is none, or no bond is given (XYZ).

    Aromatic bonds may be read as any Kekulé form: each atom must have as many double bonds among them as in one.

    Args:
        mol: Sanitised, of H, C, N, O and F, with one conformer.
        atoms: The indices of the atoms that are compared.
    """
    place = {index: i for i, index in enumerate(atoms)}
    given, aromatic = np.zeros((len(atoms), len(atoms))), np.zeros((len(atoms), len(atoms)), bool)
    kekulised = Chem.Mol(mol)
    with rdBase.BlockLogs():
        Chem.KekulizeIfPossible(kekulised)  # where it is not, an order of 1.5 agrees with nothing
    for bond, order in zip(mol.GetBonds(), kekulised.GetBonds(), strict=True):
        i, j = place.get(bond.GetBeginAtomIdx()), place.get(bond.GetEndAtomIdx())
        if i is not None and j is not None:
            given[i, j] = given[j, i] = order.GetBondTypeAsDouble()
            aromatic[i, j] = aromatic[j, i] = bond.GetIsAromatic()
    if not given.any():
        return None
    chosen = [mol.GetAtomWithIdx(index) for index in atoms]
    x = mol.GetConformer().GetPositions()[list(atoms)]
    found = bond_orders(np.array([[atom.GetAtomicNum() for atom in chosen]]), x[None])[0]
    off = ((given - found) * aromatic).sum(1) != 0
    wrong = np.argwhere(np.triu((given != found) & (~aromatic | off | off[:, None])))
    if not len(wrong):
        return None
    i, j = wrong[0].tolist()
    ends = " and ".join(f"{chosen[k].GetSymbol()}{atoms[k] + 1}" for k in (i, j))
    said = "an aromatic bond" if aromatic[i, j] else WORDS.get(given[i, j], "another bond")
    return BondMismatch(ends, float(np.linalg.norm(x[i] - x[j])), said, WORDS[int(found[i, j])])
