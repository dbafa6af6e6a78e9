"""Tables of Markdown, for cards of weights and for the texts of loggers."""

from collections.abc import Sequence
from typing import Any


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return a table as Markdown; each cell is one line."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(markdown_cell(str(cell)) for cell in line)} |" for line in lines)


def markdown_cell(text: str) -> str:
    """Return a text as one line without the bar that ends a cell."""
    return " ".join(text.split()).replace("|", "\\|")
