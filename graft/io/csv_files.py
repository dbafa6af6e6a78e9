"""CSV files: every table that graft writes comes from one writer, and no cell is a formula of a spreadsheet."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from graft.io.atomic import write_bytes

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters from which a spreadsheet takes a cell for a formula, which may start programs (CWE-1236)."""


def escape_formula(value: Any) -> Any:
    """Return a cell's value that no spreadsheet takes for a formula.

    Text that begins like a formula gets an apostrophe in front. Numbers, and text that is a number, stay as they are.
    """
    if not isinstance(value, str) or not value.lstrip("'").startswith(FORMULA) or _is_number(value):
        return value
    return f"'{value}"


def unescape_formula(value: str) -> str:
    """Return the text that `escape_formula` turned into this cell."""
    return value[1:] if value.startswith("'") and value.lstrip("'").startswith(FORMULA) else value


def csv_text(head: Sequence[str], rows: Iterable[Sequence[Any]], line_end: str = "\n") -> str:
    r"""Return a table as CSV text.

    A float is written so that reading it gives the same float, and None is an empty cell.

    Args:
        head: Names of the columns.
        rows: Cells of each row.
        line_end: Characters that end a line; ``"\r\n"`` for the format of RFC 4180.
    """
    return csv_lines([head], line_end) + csv_lines(rows, line_end)


def csv_lines(rows: Iterable[Sequence[Any]], line_end: str = "\n") -> str:
    """Return rows as CSV text, to be appended to a table."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator=line_end).writerows([escape_formula(cell) for cell in row] for row in rows)
    return out.getvalue()


def write_csv(path: "str | Path", head: Sequence[str], rows: Iterable[Sequence[Any]], line_end: str = "\n") -> None:
    """Write a table as a CSV file atomically, in UTF-8.

    Args:
        path: Path of the file.
        head: Names of the columns.
        rows: Cells of each row.
        line_end: Characters that end a line.

    Raises:
        GraftError: The folder cannot be written to.
    """
    write_bytes(path, csv_text(head, rows, line_end).encode())


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return value == value.strip()
