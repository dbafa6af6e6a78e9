"""compare.csv: a row for each finished run, whole after each of them."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft import files
from graft.errors import GraftError

NAME = "compare.csv"
TEXT = ("line", "method", "level", "run")  # columns that hold no numbers
Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The rows that are there, empty cells as None.

    Raises:
        GraftError: The file is damaged.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return [{name: _value(name, cell) for name, cell in row.items()} for row in csv.DictReader(file)]
    except (OSError, ValueError, TypeError, AttributeError, csv.Error) as error:
        raise GraftError(f"{path} is damaged ({error}): remove it, and what it says is judged again") from None


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write all rows, or leave the file as it is."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    files.write_text(path, out.getvalue())


def _cell(value: Any) -> str:
    return "" if value is None else repr(value) if isinstance(value, float) else str(value)


def _value(name: str, cell: str) -> Any:
    if name in TEXT:
        return cell
    if cell == "":
        return None
    return int(cell) if cell.lstrip("-").isdigit() else float(cell)
