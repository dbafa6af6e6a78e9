"""Molecules that somebody scored: an SDF file with a property, or a CSV table of SMILES with a column."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from domains.molecules.chemistry import Vocabulary
from domains.molecules.dataset import Molecules, graphs
from domains.molecules.sources import atoms, packed, records
from graft.errors import GraftError

LeftOut = list[tuple[int, str]]


def read(
    path: Path, score: str, vocabulary: Vocabulary, max_heavy_atoms: int
) -> tuple[Molecules, list[float], LeftOut]:
    """The usable molecules, their scores, and (record from 1, why) of what is left out.

    SDF records need a 3-D structure; the SMILES of a CSV (column ``smiles`` in any case) are embedded by ETKDG, MMFF94.

    Raises:
        GraftError: The file is of another kind, or has no such property or column.
    """
    kinds = {".sdf": _sdf, ".csv": _csv}
    if path.suffix.lower() not in kinds:
        raise GraftError(f"scored molecules are read from .sdf and .csv files, not from {str(path)!r}")
    kept: list[tuple[Any, Any]] = []
    values: list[float] = []
    numbers: list[int] = []
    left_out: LeftOut = []
    for number, (mol, text, why) in enumerate(kinds[path.suffix.lower()](path, score), 1):
        value = _number(text)
        if mol is None:
            left_out.append((number, why))
        elif value is None:
            left_out.append((number, f"no score: {score} is {text!r}" if text else f"no score: {score} is missing"))
        else:
            kept.append(atoms(mol))
            values.append(value)
            numbers.append(number)
    if not kept:
        none = torch.zeros(0, dtype=torch.long)
        return Molecules(none, torch.zeros(0, 3), none, []), [], left_out
    molecules, _ = graphs(packed(kept), vocabulary, max_heavy_atoms)
    rows = molecules.rows.tolist()
    fit = set(rows)
    why = f"not a molecule of at most {max_heavy_atoms} heavy atoms of C, N, O, F that the distance rule finds whole"
    left_out += [(number, why) for i, number in enumerate(numbers) if i not in fit]
    return molecules, [values[i] for i in rows], sorted(left_out)


def _number(text: str) -> "float | None":
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _sdf(path: Path, score: str) -> Iterator[tuple[Any, str, str]]:
    names: set[str] = set()
    found = False
    with rdBase.BlockLogs():
        for mol, why in records(path):
            text = ""
            try:
                names |= set(mol.GetPropNames()) if mol is not None else set()
                if mol is not None and mol.HasProp(score):
                    found, text = True, str(mol.GetProp(score)).strip()
            except UnicodeDecodeError:
                pass  # a property in another encoding is none
            yield mol, text, why
    if not found:
        raise GraftError(
            f"no record of {path} has a property {score!r}; there are: {', '.join(sorted(names)) or 'none'}"
        )


def _csv(path: Path, score: str) -> Iterator[tuple[Any, str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            columns = list(table.fieldnames or [])
            smiles = next((name for name in columns if name.strip().lower() == "smiles"), None)
            if smiles is None or score not in columns:
                missing = "smiles" if smiles is None else score
                raise GraftError(f"{path} has no column {missing!r}; there are: {', '.join(columns) or 'none'}")
            for row in table:
                text = (row[score] or "").strip()
                mol, why = _embedded((row[smiles] or "").strip()) if _number(text) is not None else (Chem.Mol(), "")
                yield mol, text, why
    except (UnicodeDecodeError, csv.Error) as error:
        raise GraftError(f"{path} is no CSV table in UTF-8 ({error})") from None


def _embedded(smiles: str) -> tuple[Any, str]:
    with rdBase.BlockLogs():
        parsed = Chem.MolFromSmiles(smiles) if smiles else None
        if parsed is None:
            return None, f"no SMILES: {smiles!r}"
        mol = Chem.AddHs(parsed)
        if (
            rdDistGeom.EmbedMolecule(mol, randomSeed=0) != 0
            or rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=500) < 0
        ):
            return None, "cannot be embedded in 3-D"
    return mol, ""
