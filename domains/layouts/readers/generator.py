"""Generated document pages that look plausible, so that no download is needed.

A page has margins and one or two columns; a title may span them. A column is filled from the top: paragraphs, headings
close above theirs, lists, figures with the caption below, tables with the caption above. Gaps are even on a page, and
blocks fill their column's width, so alignment and overlap are nearly 0, as on a clean page.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from domains.layouts.readers.record import Element

KINDS = ("paragraph", "heading", "list", "figure", "table")
SHARES = (0.5, 0.2, 0.08, 0.14, 0.08)


@dataclass
class _Column:
    left: float
    right: float
    top: float
    bottom: float


def generate_pages(count: int, seed: int = 0) -> "Iterator[list[Element]]":
    """Yield ``count`` pages, the same ones for a seed."""
    for number in range(count):
        yield generate_page(np.random.default_rng([seed, number]))


def generate_page(random: np.random.Generator) -> "list[Element]":
    """Return one page of PubLayNet's classes; left, top, right, bottom as fractions of the page."""
    side, top, bottom = random.uniform(0.06, 0.13), random.uniform(0.06, 0.1), random.uniform(0.9, 0.94)
    gap, gutter = random.uniform(0.008, 0.018), random.uniform(0.025, 0.045)
    made: list[Element] = []
    if random.random() < 0.25:  # the first page of an article: its title and abstract above the columns
        height = random.uniform(0.03, 0.07)
        made.append(("title", (side, top, random.uniform(0.6, 1 - side), top + height)))
        top += height + gap
        if random.random() < 0.6:
            height = random.uniform(0.06, 0.16)
            made.append(("text", (side, top, 1 - side, top + height)))
            top += height + 2 * gap
    if random.random() < 0.65:
        half = (1 - 2 * side - gutter) / 2
        columns = [_Column(side, side + half, top, bottom), _Column(1 - side - half, 1 - side, top, bottom)]
        if random.random() < 0.2:  # a figure or a table over both columns
            made += _float(
                random, _Column(side, 1 - side, top, bottom), gap, "figure" if random.random() < 0.5 else "table"
            )
            for column in columns:
                column.top = max(box[3] for _, box in made) + 1.5 * gap
    else:
        columns = [_Column(side, 1 - side, top, bottom)]
    for column in columns:
        made += _filled(random, column, gap)
    return made


def _filled(random: np.random.Generator, column: _Column, gap: float) -> "list[Element]":
    made: list[Element] = []
    end = column.bottom if random.random() < 0.8 else random.uniform(column.top + 0.1, column.bottom)
    while end - column.top > 0.05:
        left = end - column.top
        kind = str(random.choice(KINDS, p=SHARES))
        if kind in ("figure", "table") and left > 0.25:
            block = _float(random, column, gap, kind)
        elif kind == "heading" and left > 0.1:
            width = random.uniform(0.2, 0.9) * (column.right - column.left)
            line = random.uniform(0.012, 0.018)
            block = [("title", (column.left, column.top, column.left + width, column.top + line))]
        else:
            height = min(left, random.gamma(2.0, 0.05) + 0.02)
            height = left if left - height < 0.04 else height  # the rest of the column would be too small for a block
            inset = random.uniform(0.01, 0.03) if kind == "list" else 0.0
            name = "list" if kind == "list" else "text"
            block = [(name, (column.left + inset, column.top, column.right, column.top + height))]
        made += block
        column.top = max(box[3] for _, box in block) + gap
    return made


def _float(random: np.random.Generator, column: _Column, gap: float, kind: str) -> "list[Element]":
    """Return a figure with its caption below, or a table with its caption above."""
    room = column.bottom - column.top
    body, caption = random.uniform(0.35, 0.7) * min(room, 0.5), random.uniform(0.015, 0.04)
    width = (column.right - column.left) * (1.0 if random.random() < 0.7 else random.uniform(0.6, 0.95))
    left = column.left + (column.right - column.left - width) / 2
    top = column.top
    if kind == "figure":
        lower = top + body + gap / 2
        return [
            ("figure", (left, top, left + width, top + body)),
            ("text", (column.left, lower, column.right, lower + caption)),
        ]
    lower = top + caption + gap / 2
    return [
        ("text", (column.left, top, column.right, top + caption)),
        ("table", (left, lower, left + width, lower + body)),
    ]
