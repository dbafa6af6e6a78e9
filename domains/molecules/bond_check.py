"""Bonds on which the positions and a molecule's own file disagree."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from rdkit import Chem, rdBase

from domains.molecules.edm_bonds import bond_orders
from domains.molecules.valence_bonds import connections
from domains.molecules.vocabulary import Vocabulary

WORDS = {0: "no bond", 1: "a single bond", 2: "a double bond", 3: "a triple bond"}


class BondMismatch(NamedTuple):
    """Two atoms and the two readings of their bond.

    Attributes:
        ends: The atoms, as ``C1 and C2``, counted from 1.
        distance: Distance of the atoms, Å.
        given: Bond in the file, as ``an aromatic bond`` or ``no bond``.
        found: Bond by the positions.
    """

    ends: str
    distance: float
    given: str
    found: str


def first_bond_mismatch(mol: Any, atoms: Sequence[int], vocabulary: Vocabulary) -> "BondMismatch | None":
    """Return the first mismatch among ``atoms``, or None.

    A file without bonds (XYZ) has no mismatch. Where hydrogens are part of the types, only the bonded pairs are
    compared. With explicit hydrogens the orders are compared, too, and any Kekulé form of aromatic bonds is accepted:
    each atom must have as many double bonds among them as in one form.

    Args:
        mol: Sanitised molecule of elements of the vocabulary, with one conformer.
        atoms: Indices of the atoms that are compared.
        vocabulary: Vocabulary that decides the rule for bonds.
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
    elements = np.array([[atom.GetAtomicNum() for atom in chosen]])
    if vocabulary.explicit:
        found = bond_orders(elements, x[None])[0].astype(float)
        off = ((given - found) * aromatic).sum(1) != 0
        wrong = np.argwhere(np.triu((given != found) & (~aromatic | off | off[:, None])))
    else:
        found = np.zeros_like(given)
        _, first, second, _ = connections(elements, x[None])
        found[first, second] = found[second, first] = np.where(given[first, second] > 0, given[first, second], 1)
        wrong = np.argwhere(np.triu((given > 0) != (found > 0)))
    if not len(wrong):
        return None
    i, j = wrong[0].tolist()
    ends = " and ".join(f"{chosen[k].GetSymbol()}{atoms[k] + 1}" for k in (i, j))
    given_bond = "an aromatic bond" if aromatic[i, j] else WORDS.get(given[i, j], "another bond")
    return BondMismatch(ends, float(np.linalg.norm(x[i] - x[j])), given_bond, WORDS[int(found[i, j])])
