"""One record of a file of molecules, with a conformer or as a SMILES, and the reason why it is invalid."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from typing_extensions import override

UNREADABLE, FLAT = "unparseable", "without a 3-D structure"
DEPICTION = "a flat depiction without a 3-D structure (all z are equal)"
KEKULE = "with aromatic bonds that have no Kekulé form, since hydrogens of aromatic atoms are missing"
FLAT_Z = 1e-4  # Å; the coordinates of an SDF have four decimals


class Record(ABC):
    """One record of a file.

    Attributes:
        properties: Its properties by name, as text.
        title: Name or SMILES of the molecule for messages; "" if it has none.
        has_structure: True if the molecule comes with a conformer.
        bare: True if the molecule has atoms only, without bonds.
    """

    properties: dict[str, str]
    title: str = ""
    has_structure: bool = True
    bare: bool = False

    @abstractmethod
    def parsed(self) -> tuple[Any, str]:
        """Return (sanitised molecule, ""), or (None, the reason); hydrogens are those of the file."""

    def molecule(self) -> tuple[Any, str]:
        """Return (molecule with hydrogens, ""), or (None, the reason)."""
        mol, why = self.parsed()
        if mol is None or self.bare:
            return mol, why
        with rdBase.BlockLogs():
            return Chem.AddHs(mol, addCoords=self.has_structure), ""


class Structure(Record):
    """A record with a conformer.

    Args:
        mol: Molecule as the file has it; None if it cannot be read.
        properties: Its properties.
        title: Its name.
        bare: True if the molecule has atoms only. Its hydrogens are those of the file.
    """

    def __init__(self, mol: Any, properties: dict[str, str], title: str = "", bare: bool = False) -> None:
        self._mol, self.properties, self.title, self.bare = mol, properties, title, bare
        if not title and mol is not None and not bare:
            self.title = _unsanitised_smiles(mol)

    @override
    def parsed(self) -> tuple[Any, str]:
        mol = self._mol
        if mol is None or mol.GetNumAtoms() == 0:
            return None, UNREADABLE
        x = mol.GetConformer().GetPositions()
        if not mol.GetConformer().Is3D() or not np.isfinite(x).all():
            return None, FLAT
        with rdBase.BlockLogs():
            mol, why = _without_implicit_hydrogens(mol) if self.bare else _sanitised(mol)
        if mol is not None and not self.bare and np.ptp(x[:, 2]) < FLAT_Z and _is_depiction(mol, x):
            return None, DEPICTION
        return mol, why


def _unsanitised_smiles(mol: Any) -> str:
    """Return a SMILES that names a molecule without a title in messages; "" if there is none."""
    try:
        with rdBase.BlockLogs():
            copy = Chem.Mol(mol)
            copy.UpdatePropertyCache(strict=False)
            return str(Chem.MolToSmiles(Chem.RemoveHs(copy, sanitize=False)))
    except (RuntimeError, ValueError):
        return ""


def _without_implicit_hydrogens(mol: Any) -> tuple[Any, str]:
    copy = Chem.Mol(mol)
    for atom in copy.GetAtoms():
        atom.SetNoImplicit(True)
    copy.UpdatePropertyCache(strict=False)
    return copy, ""


def _is_depiction(mol: Any, x: NDArray[Any]) -> bool:
    """Return True if atoms in one plane are no real structure.

    With all hydrogens in the file, a real structure in one plane has no atom with four neighbours. Without them, three
    atoms always lie in one plane, and bonds of one length show a depiction.
    """
    if all(atom.GetTotalNumHs() == 0 for atom in mol.GetAtoms()):
        return any(atom.GetDegree() > 3 for atom in mol.GetAtoms())
    bonds = [np.linalg.norm(x[bond.GetBeginAtomIdx()] - x[bond.GetEndAtomIdx()]) for bond in mol.GetBonds()]
    return len(x) > 3 or (len(bonds) > 1 and bool(np.ptp(bonds) < 1e-3))


def _sanitised(mol: Any) -> tuple[Any, str]:
    """Return a sanitised molecule, with a hydrogen at an aromatic atom if it has one Kekulé form with it."""
    try:
        trial = Chem.RWMol(mol)
        Chem.SanitizeMol(trial)
        return Chem.Mol(trial), ""
    except Chem.KekulizeException:
        pass
    except Chem.AtomValenceException as error:
        return None, f"with a valence that RDKit does not allow ({_one_line(error)})"
    except ValueError as error:
        return None, f"RDKit cannot sanitise it ({_one_line(error)})"
    found: dict[str, Any] = {}
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() in (7, 15) and atom.GetDegree() == 2 and atom.GetFormalCharge() == 0:
            trial = Chem.RWMol(mol)
            trial.GetAtomWithIdx(atom.GetIdx()).SetNumExplicitHs(1)
            trial.GetAtomWithIdx(atom.GetIdx()).SetNoImplicit(True)
            if Chem.SanitizeMol(trial, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
                found.setdefault(str(Chem.MolToSmiles(trial)), trial)
    # several tautomers are possible, of which the file does not say one
    return (Chem.Mol(next(iter(found.values()))), "") if len(found) == 1 else (None, KEKULE)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).replace(":", "")


class Smiles(Record):
    """A record with a SMILES and no conformer."""

    has_structure = False

    def __init__(self, smiles: str, properties: "dict[str, str]") -> None:
        self.title, self.properties = smiles, properties

    @override
    def parsed(self) -> tuple[Any, str]:
        with rdBase.BlockLogs():
            mol = Chem.MolFromSmiles(self.title) if self.title else None
        return (mol, "") if mol is not None and mol.GetNumAtoms() else (None, "no SMILES")
