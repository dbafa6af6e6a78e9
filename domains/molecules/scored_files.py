"""Molecules with scores: a file of `records.KINDS` with the score in a property or column."""

import math
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import torch
from rdkit import Chem

from domains.molecules import records
from domains.molecules.bond_check import first_bond_mismatch
from domains.molecules.dataset import LARGE, OTHER, MoleculeDataset, to_graphs
from domains.molecules.sources import atoms, pad_arrays
from domains.molecules.vocabulary import EXPLICIT, Vocabulary
from graft.errors import GraftError


class Scored(NamedTuple):
    """Molecules of a file and their scores.

    Attributes:
        molecules: Usable molecules.
        values: Score of each usable molecule.
        left_out: (record, counted from 1, reason) of the invalid records.
        replicates: Number of records of a molecule that an earlier record has; the mean of their scores is taken.
    """

    molecules: MoleculeDataset
    values: list[float]
    left_out: list[tuple[int, str]]
    replicates: int


def read(path: Path, score: str, vocabulary: Vocabulary, nodes: int) -> Scored:
    """Return the molecules of a file and their scores.

    SDF records need a 3-D structure; the SMILES of a table are embedded by ETKDG and MMFF94. Records of one SMILES
    (stereoisomers differ) are replicates: one molecule with their mean score. Structures of one molecule in an SDF or
    XYZ file are poses, each with its own score.

    Args:
        path: Path of the file.
        score: Property or column that holds the score.
        vocabulary: Vocabulary of the nodes.
        nodes: Largest number of nodes of a molecule.

    Raises:
        GraftError: The file is of another kind, or has no such property or column.
    """
    if path.suffix.lower() not in records.KINDS:
        *some, last = records.KINDS
        kinds = f"{', '.join(some)} and {last}"
        raise GraftError(f"scored molecules are read from {kinds} files, not from {str(path)!r}")
    mols: list[Any] = []
    values: list[list[float]] = []
    numbers: list[list[int]] = []
    place: dict[str, int] = {}  # position in `mols` by SMILES
    left_out: list[tuple[int, str]] = []
    names: dict[str, None] = {}
    for number, record in enumerate(records.read(path), 1):
        names |= dict.fromkeys(record.properties)
        text = record.properties.get(score, "")
        value = _number(text)
        # a row without a score is not embedded, which would take time
        mol, why = record.molecule() if value is not None or path.suffix.lower() != ".csv" else (None, "")
        if mol is None and why:
            left_out.append((number, why))
        elif value is None:
            left_out.append((number, f"no score: {score} is {text!r}" if text else f"no score: {score} is missing"))
        else:
            smiles = Chem.MolToSmiles(Chem.RemoveHs(mol)) if path.suffix.lower() in (".csv", ".smi") else str(number)
            if smiles not in place:
                place[smiles] = len(mols)
                mols.append(mol)
                values.append([])
                numbers.append([])
            values[place[smiles]].append(value)
            numbers[place[smiles]].append(number)
    if score not in names:
        what = "has no column" if path.suffix.lower() == ".csv" else "has no record with a property"
        raise GraftError(f"{path} {what} {score!r}; there are: {', '.join(names) or 'none'}")
    if not mols:
        none = torch.zeros(0, dtype=torch.long)
        return Scored(MoleculeDataset(none, torch.zeros(0, 3), none, []), [], left_out, 0)
    molecules, unused = to_graphs(pad_arrays([atoms(mol) for mol in mols]), vocabulary, nodes, nodes)
    reasons = {
        OTHER: f"{OTHER} than {', '.join(dict.fromkeys(EXPLICIT.symbols))}",
        LARGE: f"{LARGE}, of more than {nodes} {'atoms' if vocabulary is EXPLICIT else 'heavy atoms'}",
    }
    for mol, of, why in zip(mols, numbers, unused, strict=True):
        if why:
            because = reasons[why] if why in reasons else _misread_bond(mol) or why
            left_out += [(number, because) for number in of]
    fit = [i for i, why in enumerate(unused) if not why]
    replicates = sum(len(numbers[i]) - 1 for i in fit)
    return Scored(molecules, [fmean(values[i]) for i in fit], sorted(left_out), replicates)


def _misread_bond(mol: Any) -> str:
    """Return why the distance rule makes another molecule of a record.

    It is "" if the bonds of the record do not show the reason.
    """
    if mol.GetNumBonds() and len(Chem.GetMolFrags(mol)) > 1:  # an XYZ file has no bonds
        return "in pieces"
    if any(atom.GetFormalCharge() for atom in mol.GetAtoms()):
        return "with charged atoms"
    bond = first_bond_mismatch(mol, range(mol.GetNumAtoms()))
    if bond is None:
        return ""
    return f"the distance rule misreads {bond.given}: {bond.ends}, {bond.distance:.2f} Å, as {bond.found}"


def _number(text: str) -> "float | None":
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
