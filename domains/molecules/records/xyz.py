"""Records of XYZ files, whose atoms have no bonds."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rdkit import Chem, rdBase

from domains.molecules.records.content import decode_file
from domains.molecules.records.record import Record, Structure
from graft.io import text

QM9_PROPERTIES = "tag index A B C mu alpha homo lumo gap r2 zpve U0 U H G Cv".split()
"""Properties in the comment line of a raw file of QM9, in order."""


def read_xyz(path: Path) -> Iterator[Record]:
    """Yield the frames of an XYZ file; ``name=value`` words of the comment line are properties.

    The molecules have no bonds, which are found from the distances later. Lines after the atoms that are no number, as
    in the raw files of QM9, belong to the frame.
    """
    lines = text.split_lines(decode_file(path))
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        count = int(lines[at]) if _is_count(lines[at]) else 0
        frame = lines[at + 2 : at + 2 + count]
        comment = lines[at + 1] if at + 1 < len(lines) else ""
        at = at + 1 if count == 0 or len(frame) < count else at + 2 + count
        rest: list[str] = []
        while at < len(lines) and not _is_count(lines[at]):
            rest.append(lines[at])
            at += 1
        with rdBase.BlockLogs():  # RDKit prints a message for an unknown element
            # an atom beyond the count shows that the count is wrong
            whole = count > 0 and len(frame) == count and not any(_atom(line) for line in rest)
            mol = _frame(frame) if whole else None
        yield Structure(mol, _properties(comment) if whole else {}, comment.strip() if whole else "", bare=True)


def _is_count(line: str) -> bool:
    return line.strip().isascii() and line.strip().isdigit()


def _properties(comment: str) -> dict[str, str]:
    words = comment.split()
    if words[:1] == ["gdb"]:
        return dict(zip(QM9_PROPERTIES, words, strict=False))
    pairs = re.findall(r'([^\s=]+)=("[^"]*"|\S*)', comment)
    return {name: value.strip('"') for name, value in pairs}


def _atom(line: str) -> "tuple[int, list[float]] | None":
    """Return the atomic number and position of a line, or None if it is not an atom.

    Exponents may be written as ``*^`` (Mathematica) or ``D`` (Fortran).
    """
    symbol, *x = line.split()[:4] or [""]
    if len(x) != 3:
        return None
    table = Chem.GetPeriodicTable()
    try:
        symbol = table.GetElementSymbol(int(symbol)) if symbol.isdigit() else symbol.capitalize()
        number = table.GetAtomicNumber(symbol)
        place = [float(value.replace("*^", "e").replace("D", "e").replace("d", "e")) for value in x]
    except (ValueError, RuntimeError, OverflowError):
        return None
    return (number, place) if number > 0 and all(map(math.isfinite, place)) else None


def _frame(lines: list[str]) -> Any:
    """Return the atoms of a frame as a molecule without bonds; None if a line is not an atom."""
    mol = Chem.RWMol()
    conformer = Chem.Conformer(len(lines))
    conformer.Set3D(True)
    for i, line in enumerate(lines):
        found = _atom(line)
        if found is None:
            return None
        conformer.SetAtomPosition(i, found[1])
        mol.AddAtom(Chem.Atom(found[0]))
    mol.AddConformer(conformer)
    return Chem.Mol(mol)
