"""Records of SDF and MOL files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rdkit import Chem, rdBase

from domains.molecules.records.content import open_binary
from domains.molecules.records.record import Record, Structure
from graft.errors import GraftError


def read_sdf(path: Path) -> Iterator[Record]:
    """Yield the records of an SDF or MOL file.

    Raises:
        GraftError: The file has no record.
    """
    with open_binary(path) as file:
        lines: list[bytes] = []
        count = 0
        for line in file:
            if line.startswith(b"$$$$"):
                yield _record(lines)
                lines, count = [], count + 1
            else:
                lines.append(line.rstrip(b"\r\n"))
        if any(line.strip() for line in lines):
            yield _record(lines)
        elif count == 0:
            raise GraftError(f"{path} is no SDF file, or an empty one")


def _record(lines: list[bytes]) -> Record:
    """Return one record; a property that is not UTF-8 is skipped."""
    start = next((i for i, line in enumerate(lines) if line.startswith(b">")), len(lines))
    block = b"\n".join(lines[:start]).decode("utf-8", errors="replace") + "\n"
    properties: dict[str, str] = {}
    i = start
    while i < len(lines):
        header = lines[i]
        i += 1
        if not header.startswith(b">") or b"<" not in header:
            continue
        value: list[bytes] = []
        while i < len(lines) and lines[i].strip():
            value.append(lines[i])
            i += 1
        try:
            name = header[header.index(b"<") + 1 : header.rindex(b">")].decode()
            properties[name] = b"\n".join(value).decode().strip()
        except UnicodeDecodeError:
            pass
    with rdBase.BlockLogs():
        try:
            mol: Any = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
        except (OSError, RuntimeError, ValueError, IndexError):  # RDKit raises any of these for an invalid record
            mol = None
    atoms = [] if mol is None else [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    # atoms without bonds and with hydrogens, as some programs write them, are a structure as in an XYZ file
    bare = len(atoms) > 1 and 1 in atoms and mol.GetNumBonds() == 0
    return Structure(mol, properties, block.partition("\n")[0].strip(), bare)
