"""Bonds on which the distance rule and a molecule's own file disagree."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from rdkit import Chem, rdBase

from domains.molecules.bond_orders import bond_orders

WORDS = {0: "no bond", 1: "a single bond", 2: "a double bond", 3: "a triple bond"}


class BondMismatch(NamedTuple):
    """Two atoms and the two readings of their bond.

    Attributes:
        ends: The atoms, as ``C1 and C2``, counted from 1.
        distance: Distance of the atoms, Å.
        given: Bond in the file, as ``an aromatic bond`` or ``no bond``.
        found: Bond by the distance rule.
    """

    ends: str
    distance: float
    given: str
    found: str


def first_bond_mismatch(mol: Any, atoms: Sequence[int]) -> "BondMismatch | None":
    """Return the first mismatch among ``atoms``, or None.

    A file without bonds (XYZ) has no mismatch.

    Any Kekulé form of aromatic bonds is accepted: each atom must have as many double bonds among them as in one form.

    Args:
        mol: Sanitised molecule of H, C, N, O and F, with one conformer.
        atoms: Indices of the atoms that are compared.
    """
    place = {index: i for i, index in enumerate(atoms)}
    given, aromatic = np.zeros((len(atoms), len(atoms))), np.zeros((len(atoms), len(atoms)), bool)
    kekulised = Chem.Mol(mol)
    with rdBase.BlockLogs():
        Chem.KekulizeIfPossible(kekulised)  # without a Kekulé form the order 1.5 remains, which is always a mismatch
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
    given_bond = "an aromatic bond" if aromatic[i, j] else WORDS.get(given[i, j], "another bond")
    return BondMismatch(ends, float(np.linalg.norm(x[i] - x[j])), given_bond, WORDS[int(found[i, j])])
