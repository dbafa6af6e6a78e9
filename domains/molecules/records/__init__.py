"""Records of SDF, XYZ, SMILES and table files: a reader for each kind of file, and what a record holds."""

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from domains.molecules.records.columns import find_column, plain
from domains.molecules.records.content import suffix
from domains.molecules.records.record import DEPICTION, FLAT, UNREADABLE, Record
from domains.molecules.records.sdf import read_sdf
from domains.molecules.records.tables import read_smi, read_table
from domains.molecules.records.xyz import read_xyz
from graft.errors import GraftError

__all__ = [
    "DEPICTION",
    "FLAT",
    "KINDS",
    "TABLES",
    "UNREADABLE",
    "Record",
    "find_column",
    "plain",
    "read_records",
    "suffix",
]

TABLES = (".csv", ".tsv", ".txt")
"""Suffixes of tables with a header."""
KINDS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".sdf": read_sdf,
    ".mol": read_sdf,
    ".xyz": read_xyz,
    ".smi": read_smi,
    **dict.fromkeys(TABLES, read_table),
}
"""Reader for each suffix; ``.gz`` may follow it."""


def read_records(path: Path, smiles_column: "str | None" = None) -> Iterator[Record]:
    """Return the records of a file, in order; its suffix decides the reader in `KINDS`.

    Args:
        path: Path of the file, whose name may end in ``.gz``.
        smiles_column: Column of the SMILES in a table; None for a column of that name.

    Raises:
        GraftError: The file cannot be read as its suffix says.
    """
    kind = suffix(path)
    try:
        if kind in TABLES:
            yield from read_table(path, smiles_column)
        else:
            yield from KINDS[kind](path)
    except (EOFError, OSError, zlib.error) as error:
        raise GraftError(f"{path} cannot be read ({error})") from None
