"""Molecules that somebody scored: a file of `records.KINDS` whose records have a property or column with the score."""

import math
from pathlib import Path
from typing import Any

import torch

from domains.molecules import records
from domains.molecules.chemistry import Vocabulary
from domains.molecules.dataset import Molecules, graphs
from domains.molecules.sources import atoms, packed
from graft.errors import GraftError

LeftOut = list[tuple[int, str]]


def read(path: Path, score: str, vocabulary: Vocabulary, nodes: int) -> tuple[Molecules, list[float], LeftOut]:
    """The usable molecules, their scores, and (record from 1, why) of what is left out.

    SDF records need a 3-D structure; the SMILES of a CSV (column ``smiles`` in any case) are embedded by ETKDG, MMFF94.

    Args:
        path: Of the file.
        score: Property or column that holds the score.
        vocabulary: Of the nodes.
        nodes: The most that a molecule may have.

    Raises:
        GraftError: The file is of another kind, or has no such property or column.
    """
    if path.suffix.lower() not in records.KINDS:
        *some, last = records.KINDS
        kinds = f"{', '.join(some)} and {last}"
        raise GraftError(f"scored molecules are read from {kinds} files, not from {str(path)!r}")
    kept: list[tuple[Any, Any]] = []
    values: list[float] = []
    numbers: list[int] = []
    left_out: LeftOut = []
    names: dict[str, None] = {}
    for number, record in enumerate(records.read(path), 1):
        names |= dict.fromkeys(record.properties)
        text = record.properties.get(score, "")
        value = _number(text)
        # what has no score need not be embedded
        mol, why = record.molecule() if value is not None or path.suffix.lower() != ".csv" else (None, "")
        if mol is None and why:
            left_out.append((number, why))
        elif value is None:
            left_out.append((number, f"no score: {score} is {text!r}" if text else f"no score: {score} is missing"))
        else:
            kept.append(atoms(mol))
            values.append(value)
            numbers.append(number)
    if score not in names:
        what = "has no column" if path.suffix.lower() == ".csv" else "has no record with a property"
        raise GraftError(f"{path} {what} {score!r}; there are: {', '.join(names) or 'none'}")
    if not kept:
        none = torch.zeros(0, dtype=torch.long)
        return Molecules(none, torch.zeros(0, 3), none, []), [], left_out
    molecules, _ = graphs(packed(kept), vocabulary, nodes, nodes)
    rows = molecules.rows.tolist()
    fit = set(rows)
    elements = ", ".join(dict.fromkeys(vocabulary.symbols))
    why = f"not a molecule of at most {nodes} atoms of {elements} that the distance rule finds whole"
    left_out += [(number, why) for i, number in enumerate(numbers) if i not in fit]
    return molecules, [values[i] for i in rows], sorted(left_out)


def _number(text: str) -> "float | None":
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
