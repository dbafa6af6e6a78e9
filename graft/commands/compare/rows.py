"""``compare.csv``: one row for each evaluated run of a method, written whole after each run."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io.csv_files import unescape_formula, write_csv

NAME = "compare.csv"
TEXT = ("line", "path", "method", "level", "run")
"""Columns of text; all other columns hold numbers."""
Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Return the rows of the file, or an empty list if there is no file.

    An empty cell of a column of numbers is None.

    Raises:
        GraftError: The file is damaged.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [{name: _value(name, cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise GraftError(f"{path} is damaged ({error}). Remove the file; its rows are then computed again.") from None


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows atomically."""
    names = list(rows[0])
    write_csv(path, names, [[row.get(name) for name in names] for row in rows])


def _value(name: str, cell: str) -> Any:
    if name in TEXT:
        return unescape_formula(cell)
    if cell == "":
        return None
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)
