"""The result of a docking, and its file of poses."""

import io
import math
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rdkit import Chem, rdBase

from graft.io.atomic import write_text


@dataclass
class Docking:
    """The result of docking a molecule.

    Attributes:
        affinity: Affinity of the best pose in kcal/mol.
        poses: Molecules with hydrogens, one for each pose, the best first. Each has the property ``affinity``.
    """

    affinity: float
    poses: list[Any]


_KEEPING = threading.Lock()  # threads of a process would write the same temporary file


def keep_best(docking: Docking, path: Path, smiles: str) -> None:
    """Write the poses, unless the file has a better one."""
    text = io.StringIO()
    with Chem.SDWriter(text) as writer:
        for pose in docking.poses:
            pose.SetProp("SMILES", smiles)
            writer.write(pose)
    with _KEEPING:
        if not path.is_file() or docking.affinity < _best_of(path):
            write_text(path, text.getvalue())


def _best_of(path: Path) -> float:
    """Return the affinity of the first pose of a file; infinity if it has none."""
    found = re.search(r"^>\s+<affinity>.*\n(\S+)", text_of(path), re.MULTILINE)
    try:
        return float(found[1]) if found else math.inf
    except ValueError:
        return math.inf


def first_pose(path: Path) -> Any:
    """Return the first pose of a file with its affinity; None if it cannot be read."""
    with rdBase.BlockLogs():
        found = Chem.MolFromMolBlock(text_of(path), removeHs=False)
    affinity = _best_of(path)
    if found is None or not math.isfinite(affinity):
        return None
    found.SetDoubleProp("affinity", affinity)
    return found


def text_of(path: Path) -> str:
    """Return the text of a file that a program wrote; empty if there is none."""
    return path.read_text(encoding="utf-8-sig", errors="replace") if path.is_file() else ""
