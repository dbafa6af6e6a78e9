"""Tables of reports, as text for the terminal and as HTML, and the format of their numbers."""

import html
from collections.abc import Sequence

from graft.evaluation.confidence import MeanInterval

Row = Sequence[str]


class Markup(str):
    """A table cell that is HTML already; `html_table` does not escape it."""


def format_number(value: "float | None") -> str:
    """Return a number with four significant digits, or a dash for None."""
    if value is None:
        return "–"
    return f"{value:.0f}" if float(value).is_integer() and abs(value) >= 10 else f"{value:.4g}"


def format_interval(value: MeanInterval) -> str:
    """Return a mean with half of the width of its interval, if it has one."""
    return f"{value.mean:.4g}" + (f" ± {value.half:.2g}" if value.half else "")


def format_name(name: str) -> str:
    """Return the name of a metric as reports show it: with spaces in place of underscores."""
    return name.replace("_", " ")


def text_table(head: Row, body: Sequence[Row], left: int = 1) -> list[str]:
    """Return the lines of a table: the head, a rule, then one line for each row.

    Args:
        head: Titles of the columns.
        body: Cells of each row, as many as the head has.
        left: Number of leading columns that are aligned to the left; the others are aligned to the right.
    """
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    lines = [
        "  ".join(
            f"{cell:<{width}}" if i < left else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in [head, *body]
    ]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def text_facts(facts: Sequence[tuple[str, str]]) -> list[str]:
    """Return one line for each (name, value), with the values aligned."""
    width = max(len(name) for name, _ in facts)
    return [f"{name:<{width}}  {value}" for name, value in facts]


def html_table(body: Sequence[Row], head: "Row | None" = None, small: bool = False) -> str:
    """Return an HTML table; every cell is escaped unless it is `Markup`.

    Args:
        body: Cells of each row.
        head: Titles of the columns; None for a table without a head.
        small: True for a smaller font, for tables of many columns.
    """
    first = "" if head is None else _html_row(head, "th")
    style = " style='font-size:.8rem'" if small else ""
    return f"<table{style}>{first}{''.join(_html_row(row, 'td') for row in body)}</table>"


def _html_row(row: Row, tag: str) -> str:
    cells = (cell if isinstance(cell, Markup) else html.escape(cell) for cell in row)
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"
