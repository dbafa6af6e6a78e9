"""Cells of CSV files that people open in a spreadsheet."""

from typing import Any

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""First characters from which a spreadsheet takes a cell for a formula, which may start programs (CWE-1236)."""


def cell(value: Any) -> Any:
    """Return a cell's value that no spreadsheet takes for a formula.

    Text that begins like a formula gets an apostrophe in front. Numbers, and text that is a number, stay as they are.
    """
    if not isinstance(value, str) or not value.lstrip("'").startswith(FORMULA) or _is_number(value):
        return value
    return f"'{value}"


def text(value: str) -> str:
    """Return the text that `cell` made this cell of."""
    return value[1:] if value.startswith("'") and value.lstrip("'").startswith(FORMULA) else value


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return value == value.strip()
