"""Standardise the molecules of files: fragments, charges, isotopes, and what a vocabulary cannot represent."""

import functools
from dataclasses import dataclass
from typing import Any, NamedTuple

from rdkit import Chem, rdBase
from rdkit.Chem.MolStandardize import rdMolStandardize

from domains.molecules.vocabulary import NodeType, Vocabulary

ATTACHED = "with an attachment point (*), which only a fragment may have"
RADICAL = "a radical"


@dataclass(frozen=True)
class Standard:
    """Settings of `standardise`.

    Args:
        vocabulary: Vocabulary of the nodes.
        max_heavy_atoms: Largest number of heavy atoms; None for any.
        max_nodes: Largest number of nodes; None for any.
        largest_fragment: Keep the largest fragment of a salt or mixture, by RDKit's ``LargestFragmentChooser``.
        neutralise: Remove charges by writing groups such as sulfones without them, and by adding and removing protons,
            by RDKit's ``Normalizer`` and ``Uncharger``.
    """

    vocabulary: Vocabulary
    max_heavy_atoms: "int | None" = None
    max_nodes: "int | None" = None
    largest_fragment: bool = False
    neutralise: bool = False


class Standardised(NamedTuple):
    """A standardised molecule.

    Attributes:
        mol: The molecule without isotopes; None if it cannot be used.
        smiles: Its SMILES, "" without bonds.
        identity: Its SMILES with isotopes, which no vocabulary represents: records of one identity are the same
            molecule.
        why: Reason why the molecule cannot be used, else "".
    """

    mol: Any
    smiles: str = ""
    identity: str = ""
    why: str = ""


def standardise(mol: Any, standard: Standard, bare: bool = False) -> Standardised:
    """Return the molecule as ``standard`` demands, or the reason why it cannot be used.

    Nothing is embedded, so that molecules that are too large or of other elements take no time.

    Args:
        mol: Sanitised molecule, with or without a conformer; its hydrogens may be implicit.
        standard: The settings.
        bare: The molecule has atoms only, without bonds and charges.
    """
    with rdBase.BlockLogs():
        if any(atom.GetAtomicNum() == 0 for atom in mol.GetAtoms()):
            return Standardised(None, why=ATTACHED)
        if bare:
            why = unrepresentable(mol, standard, bare)
            return Standardised(None if why else mol, why=why)
        fragments = len(Chem.GetMolFrags(mol))
        if fragments > 1 and not standard.largest_fragment:
            return Standardised(None, why=f"a salt or mixture of {fragments} fragments (set largest_fragment)")
        if fragments > 1:
            mol = _largest_fragment(mol)
        if standard.neutralise and any(atom.GetFormalCharge() for atom in mol.GetAtoms()):
            mol = neutralised(mol)
        if any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms()):
            return Standardised(None, why=RADICAL)
        if why := unrepresentable(mol, standard):
            done = " (set neutralise)" if standard.neutralise else ""
            return Standardised(None, why=why.removesuffix(done))
        smiles = identity = str(Chem.MolToSmiles(Chem.RemoveHs(mol)))
        if any(atom.GetIsotope() for atom in mol.GetAtoms()):
            mol = Chem.Mol(mol)
            for atom in mol.GetAtoms():
                atom.SetIsotope(0)
            smiles = str(Chem.MolToSmiles(Chem.RemoveHs(mol)))
        return Standardised(mol, smiles, identity)


def _largest_fragment(mol: Any) -> Any:
    """Return the largest fragment, with the hydrogens and coordinates that it has."""
    # the chooser counts hydrogens, so they must be implicit in all fragments or in none
    chosen = Chem.MolToSmiles(rdMolStandardize.LargestFragmentChooser().choose(Chem.RemoveHs(mol)))
    parts = Chem.GetMolFrags(mol, asMols=True)
    return next((part for part in parts if Chem.MolToSmiles(Chem.RemoveHs(part)) == chosen), parts[0])


def neutralised(mol: Any) -> Any:
    """Return the molecule with as few charges as bonds and protons allow; new hydrogens are implicit."""
    light = Chem.RemoveHs(mol)  # the uncharger leaves explicit hydrogens in place
    neutral = rdMolStandardize.Uncharger().uncharge(_normalizer().normalize(light))
    return mol if Chem.MolToSmiles(neutral) == Chem.MolToSmiles(light) else neutral


@functools.cache
def _normalizer() -> Any:
    """Return RDKit's normalizer, which writes groups such as sulfones without separated charges."""
    return rdMolStandardize.Normalizer()


def unrepresentable(mol: Any, standard: Standard, bare: bool = False) -> str:
    """Return why the nodes of ``standard`` cannot represent a molecule, or "".

    Args:
        mol: Molecule, whose hydrogens may be implicit.
        standard: The vocabulary and the largest sizes.
        bare: The molecule has no bonds and charges, so that the type of its atoms is unknown.
    """
    vocabulary, atoms = standard.vocabulary, list(mol.GetAtoms())
    elements = {1, *vocabulary.elements.tolist()}
    if not {atom.GetAtomicNum() for atom in atoms} <= elements:
        return f"with other elements than {', '.join(dict.fromkeys(['H', *vocabulary.symbols]))}"
    heavy = [atom for atom in atoms if atom.GetAtomicNum() > 1]
    if not heavy:
        return "without a heavy atom"
    if standard.max_heavy_atoms is not None and len(heavy) > standard.max_heavy_atoms:
        return f"too large, of more than {standard.max_heavy_atoms} heavy atoms"
    explicit = vocabulary.explicit
    nodes = len(atoms) + sum(atom.GetTotalNumHs() for atom in atoms) if explicit else len(heavy)
    if standard.max_nodes is not None and nodes > standard.max_nodes:
        return f"too large, of more than {standard.max_nodes} {'atoms' if explicit else 'heavy atoms'}"
    return "" if bare else _untyped(mol, heavy, vocabulary)


def _untyped(mol: Any, heavy: "list[Any]", vocabulary: Vocabulary) -> str:
    """Return why an atom has no type, or ""; with explicit hydrogens the molecule must be neutral as a whole."""
    charged = any(kind.charge for kind in vocabulary.kinds)
    if not charged and Chem.GetFormalCharge(mol) != 0:
        return "charged (set neutralise)"
    if vocabulary.explicit:
        return ""
    for atom in heavy:
        kind = NodeType.of(atom)
        if kind not in vocabulary.index:
            if kind.charge and not charged:
                return f"charged, with an atom {kind}"
            return f"with an atom {kind}, which has no type"
    return ""
