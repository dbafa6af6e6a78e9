"""Validity, connectivity, stability and key of a molecule.

Each is computed once and kept as a property of the molecule.
"""

from typing import Any

from rdkit import Chem, rdBase

from domains.molecules.bond_orders import VALENCE

# Properties hold the results that are computed once, so a molecule must take them to other processes.
Chem.SetDefaultPickleProperties(Chem.PropertyPickleOptions.AllProps)


def sanitise(mol: Any) -> None:
    """Sanitise a molecule in place and set its properties ``valid`` and ``connected``."""
    valid = mol.GetNumAtoms() > 0 and Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE
    if not valid:  # drawing and writing need the properties that an interrupted sanitisation leaves out
        mol.UpdatePropertyCache(strict=False)
    mol.SetBoolProp("valid", valid)
    mol.SetBoolProp("connected", len(Chem.GetMolFrags(mol)) == 1)


def _with_property(mol: Any, name: str) -> Any:
    """Return ``mol`` after its properties are computed, if it has none yet.

    Molecules of `builder.build` have them; molecules of files and of SMILES do not.
    """
    if not mol.HasProp(name):
        copy = Chem.RWMol(mol)
        with rdBase.BlockLogs():
            sanitise(copy)
            if copy.GetBoolProp("valid"):
                Chem.Kekulize(copy, clearAromaticFlags=True)
        bonds = [(a.GetAtomicNum(), a.GetTotalNumHs(), sum(b.GetBondTypeAsDouble() for b in a.GetBonds()))
                 for a in copy.GetAtoms()]  # fmt: skip
        mol.SetIntProp("stable_atoms", sum(h + order == VALENCE.get(z) for z, h, order in bonds))
        mol.SetBoolProp("valid", copy.GetBoolProp("valid"))
        mol.SetBoolProp("connected", copy.GetBoolProp("connected"))
    return mol


def is_valid(mol: Any) -> bool:
    """Return True if RDKit sanitises the molecule; several fragments and radicals are allowed."""
    return bool(_with_property(mol, "valid").GetBoolProp("valid"))


def is_connected(mol: Any) -> bool:
    """Return True if the molecule is one fragment."""
    return bool(_with_property(mol, "connected").GetBoolProp("connected"))


def stable_atoms(mol: Any) -> tuple[int, int]:
    """Return (stable atoms, atoms) of the molecule's nodes.

    An atom is stable if its bond orders and hydrogens add up to its valence.
    """
    return int(_with_property(mol, "stable_atoms").GetIntProp("stable_atoms")), int(mol.GetNumAtoms())


def is_stable(mol: Any) -> bool:
    """Return True if all atoms are stable; False for a molecule without atoms.

    The molecule may be in several fragments.
    """
    stable, total = stable_atoms(mol)
    return 0 < total == stable


def key(mol: Any) -> str:
    """Return the canonical SMILES of the largest fragment, "" if the molecule is not valid.

    Explicit hydrogens and stereo marks are left out. Equal molecules have equal keys in both conventions.
    """
    if not mol.HasProp("key"):
        mol.SetProp("key", _key(mol) if is_valid(mol) else "")
    return str(mol.GetProp("key"))


def _key(mol: Any) -> str:
    fragments = [mol] if is_connected(mol) else Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False)
    most = max(fragment.GetNumAtoms() for fragment in fragments)
    with rdBase.BlockLogs():
        # Of fragments of one size the alphabetically first is taken, so that the order of the nodes has no effect.
        return min(
            str(Chem.MolToSmiles(Chem.RemoveHs(fragment, sanitize=False), isomericSmiles=False))
            for fragment in fragments
            if fragment.GetNumAtoms() == most
        )
