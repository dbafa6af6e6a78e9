"""Files of receptors and ligands: atoms, elements and the poses that Vina writes."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem, rdBase

from domains.molecules.chemistry import is_connected, is_valid
from domains.molecules.conformers import relax_conformer
from domains.molecules.rewards.docked_poses import Docking

_RESULT = re.compile(r"^REMARK VINA RESULT:\s+(\S+)", re.MULTILINE)
_ELEMENTS = {"A": "C", "OA": "O", "NA": "N", "SA": "S", "NS": "N", "OS": "O", "HD": "H", "HS": "H"}  # of Vina's types


def parse_affinities(text: str) -> list[float]:
    """Return the affinities of Vina's poses, the best first.

    Args:
        text: PDBQT file that Vina wrote.

    Raises:
        ValueError: There is no pose, or an affinity is not a number.
    """
    found = _RESULT.findall(text)
    if not found:
        raise ValueError("Vina found no pose in the box")
    try:
        affinities = [float(each) for each in found]
    except ValueError:
        raise ValueError(f"Vina gave {found[0][:40]!r} where an affinity is expected") from None
    if not all(map(math.isfinite, affinities)):
        raise ValueError(f"Vina gave an affinity of {affinities[0]}")
    return affinities


def prepare_ligand(mol: Any, relax: bool) -> str:
    """Return a molecule as PDBQT, with its hydrogens.

    Args:
        mol: Molecule with a conformer.
        relax: Relax it by MMFF94 first.

    Raises:
        ValueError: Vina cannot dock the molecule, or meeko cannot prepare it.
    """
    from meeko import MoleculePreparation, PDBQTWriterLegacy  # imported here, because it takes seconds

    if not is_valid(mol):
        raise ValueError("the molecule is not valid")
    if not is_connected(mol):
        raise ValueError("the molecule is in several pieces: Vina docks one")
    if not mol.GetNumConformers():
        raise ValueError("the molecule has no conformer")
    with rdBase.BlockLogs():
        full = Chem.AddHs(relax_conformer(mol) if relax else mol, addCoords=True)
        Chem.Kekulize(full, clearAromaticFlags=True)
        Chem.SetAromaticity(full)  # Vina has a type of aromatic carbon, and a molecule may be kekulised
        try:
            # A ring that meeko opens closes by an attraction that counts in the affinity: small rings would win.
            (setup,) = MoleculePreparation(rigid_macrocycles=True).prepare(full)
            text, success, message = PDBQTWriterLegacy.write_string(setup)
        except Exception as error:  # meeko raises many types
            raise ValueError(f"meeko cannot prepare the molecule: {error}") from None
    if not success:
        raise ValueError(f"meeko cannot prepare the molecule: {message}")
    return str(text)


def read_docking(text: str) -> Docking:
    """Return the affinity and the poses of a PDBQT file that Vina wrote from meeko's ligand.

    Raises:
        ValueError: There is no pose, the best affinity is not below 0, or the poses cannot be read.
    """
    affinities = parse_affinities(text)
    if affinities[0] >= 0:
        raise ValueError(f"the molecule does not fit into the box: its best affinity is {affinities[0]:g} kcal/mol")
    return Docking(affinities[0], poses_of(text, affinities))


def poses_of(text: str, affinities: Sequence[float]) -> list[Any]:
    """Return the poses as molecules, from a PDBQT file of meeko's ligand."""
    from meeko import PDBQTMolecule, RDKitMolCreate  # imported here, because it takes seconds

    with rdBase.BlockLogs():
        try:
            (all_poses,) = RDKitMolCreate.from_pdbqt_mol(PDBQTMolecule(text, skip_typing=True))
        except Exception as error:  # meeko raises many types
            raise ValueError(f"meeko cannot read the poses of Vina: {error}") from None
    if all_poses is None or all_poses.GetNumConformers() != len(affinities):
        raise ValueError("meeko cannot read the poses of Vina: they do not name the atoms of the molecule")
    poses = []
    for conformer, affinity in zip(all_poses.GetConformers(), affinities, strict=True):
        pose = Chem.Mol(all_poses, confId=conformer.GetId())
        pose.ClearProp("meeko")
        pose.SetDoubleProp("affinity", affinity)
        poses.append(pose)
    return poses


def heavy_atoms(text: str) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Return the elements and the positions (n, 3) of the heavy atoms of a receptor in PDBQT."""
    lines = [line for line in text.splitlines() if line.startswith(("ATOM", "HETATM")) and len(line.split()) > 3]
    kinds = [line.split()[-1] for line in lines]
    elements = [_ELEMENTS.get(kind, kind.capitalize()) for kind in kinds]
    positions = positions_of("\n".join(lines))
    if len(positions) != len(lines):
        return [], np.zeros((0, 3))
    heavy = [i for i, element in enumerate(elements) if element != "H"]
    return [elements[i] for i in heavy], positions[heavy]


def positions_of(text: str) -> np.ndarray[Any, Any]:
    """Return the positions (n, 3) of the atoms of a PDB or PDBQT file."""
    found = []
    for line in text.splitlines():
        if line.startswith(("ATOM", "HETATM")):
            try:
                found.append([float(line[at : at + 8]) for at in (30, 38, 46)])
            except ValueError:
                continue  # no atom: the caller reports a file without any
    return np.array(found).reshape(-1, 3)


def ligand_positions(path: Path) -> np.ndarray[Any, Any]:
    """Return the positions (n, 3) of the atoms of a ligand's file, of its first molecule."""
    if path.suffix.lower() in (".pdb", ".pdbqt"):
        first = path.read_text(encoding="utf-8-sig", errors="replace").split("\nENDMDL")[0]
        return positions_of(first)
    with rdBase.BlockLogs():
        block = path.read_text(encoding="utf-8-sig", errors="replace").split("$$$$")[0]
        mol = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
    return mol.GetConformer().GetPositions() if mol is not None and mol.GetNumConformers() else np.zeros((0, 3))
