"""Validity, connectivity, stability and key of a molecule.

Each is computed once and kept as a property of the molecule.
"""

from typing import Any

from rdkit import Chem, rdBase

from domains.molecules.vocabulary import VALENCES

# Properties hold the results that are computed once, so a molecule must take them to other processes.
Chem.SetDefaultPickleProperties(Chem.PropertyPickleOptions.AllProps)


def sanitise(mol: Any, complete: bool = True) -> None:
    """Sanitise a molecule in place and set its properties ``valid`` and ``connected``.

    Stereochemistry of a valid molecule with a 3-D conformer is assigned from its positions.

    Args:
        mol: Editable molecule.
        complete: False if atoms have unpaired electrons or too many bonds, so that the molecule is not valid.
    """
    sane = mol.GetNumAtoms() > 0 and Chem.SanitizeMol(mol, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE
    if not sane:  # drawing and writing need the properties that an interrupted sanitisation leaves out
        mol.UpdatePropertyCache(strict=False)
    elif mol.GetNumConformers() and mol.GetConformer().Is3D():
        Chem.AssignStereochemistryFrom3D(mol)
    mol.SetBoolProp("valid", sane and complete)
    mol.SetBoolProp("connected", len(Chem.GetMolFrags(mol)) == 1)


def _with_property(mol: Any, name: str) -> Any:
    """Return ``mol`` after its properties are computed, if it has none yet.

    Molecules of `builder.build` have them; molecules of files and of SMILES do not.
    """
    if not mol.HasProp(name):
        copy = Chem.RWMol(mol)
        with rdBase.BlockLogs():
            sanitise(copy)
            copy.SetBoolProp("valid", copy.GetBoolProp("valid") and not radicals(copy))
            if copy.GetBoolProp("valid"):
                Chem.Kekulize(copy, clearAromaticFlags=True)
        bonds = [
            (
                (a.GetAtomicNum(), a.GetFormalCharge()),
                a.GetTotalNumHs() + sum(b.GetBondTypeAsDouble() for b in a.GetBonds()),
            )
            for a in copy.GetAtoms()
        ]
        mol.SetIntProp("stable_atoms", sum(order in VALENCES.get(kind, ()) for kind, order in bonds))
        mol.SetBoolProp("valid", copy.GetBoolProp("valid"))
        mol.SetBoolProp("connected", copy.GetBoolProp("connected"))
    return mol


def radicals(mol: Any) -> int:
    """Return the number of unpaired electrons."""
    return sum(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())


def is_valid(mol: Any) -> bool:
    """Return True if RDKit sanitises the molecule and no electron is unpaired; several fragments are allowed.

    In the explicit convention, whose bonds follow EDM's table, unpaired electrons are allowed, as in EDM's metric.
    """
    return bool(_with_property(mol, "valid").GetBoolProp("valid"))


def is_connected(mol: Any) -> bool:
    """Return True if the molecule is one fragment."""
    return bool(_with_property(mol, "connected").GetBoolProp("connected"))


def stable_atoms(mol: Any) -> tuple[int, int]:
    """Return (stable atoms, atoms) of the molecule's nodes.

    An atom is stable if its bond orders and hydrogens add up to a valence of `vocabulary.VALENCES`.
    """
    return int(_with_property(mol, "stable_atoms").GetIntProp("stable_atoms")), int(mol.GetNumAtoms())


def is_stable(mol: Any) -> bool:
    """Return True if all atoms are stable; False for a molecule without atoms.

    The molecule may be in several fragments.
    """
    stable, total = stable_atoms(mol)
    return 0 < total == stable


def molecule_key(mol: Any, stereo: bool = False) -> str:
    """Return the canonical SMILES of the largest fragment, "" if the molecule is not valid.

    Explicit hydrogens are left out. Equal molecules have equal keys in all conventions.

    Args:
        mol: Molecule.
        stereo: Keep the marks of stereocentres and double bonds, so that stereoisomers have different keys.
    """
    name = "isomeric_key" if stereo else "key"
    if not mol.HasProp(name):
        mol.SetProp(name, _key(mol, stereo) if is_valid(mol) else "")
    return str(mol.GetProp(name))


def mirror_image(smiles: str) -> str:
    """Return the canonical SMILES of the mirror image of a molecule: equal to ``smiles`` if it is not chiral."""
    mol = Chem.MolFromSmiles(smiles)
    for atom in mol.GetAtoms():
        atom.InvertChirality()
    return str(Chem.MolToSmiles(mol))


def _key(mol: Any, stereo: bool) -> str:
    fragments = [mol] if is_connected(mol) else Chem.GetMolFrags(mol, asMols=True, sanitizeFrags=False)
    most = max(fragment.GetNumAtoms() for fragment in fragments)
    with rdBase.BlockLogs():
        # Of fragments of one size the alphabetically first is taken, so that the order of the nodes has no effect.
        return min(
            str(Chem.MolToSmiles(Chem.RemoveHs(fragment, sanitize=False), isomericSmiles=stereo))
            for fragment in fragments
            if fragment.GetNumAtoms() == most
        )
