"""Conventions of the two families of layout papers, and tables that name theirs.

Figures of different conventions must not be mixed. The public code of both families compares elements with the padding
of the batch in Alignment, which the formula does not; `FORMULA` follows the formula.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domains.layouts.metrics.elements import Elements, LayoutBatch
from graft.errors import GraftError


@dataclass(frozen=True)
class Convention:
    """Data and metrics of one family of papers.

    Attributes:
        name: Name in tables.
        papers: Papers that follow it.
        max_elements: Largest number of elements of a layout in its data; larger layouts are left out.
        align_to_padding: Alignment compares with padding too (`domains.layouts.metrics.quality.alignment`).
        overlap_ignored_classes: Names of classes that may lie over others and are left out of Overlap.
    """

    name: str
    papers: str
    max_elements: int
    align_to_padding: bool
    overlap_ignored_classes: tuple[str, ...] = ()

    def pages(self, items: "Sequence[Elements] | LayoutBatch") -> LayoutBatch:
        """Return the layouts that count."""
        pages = LayoutBatch.of(items)
        return pages[pages.counts <= self.max_elements]

    def ignored(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the positions in ``names`` of the classes that Overlap leaves out."""
        return tuple(i for i, name in enumerate(names) if name in self.overlap_ignored_classes)


LAYOUTFORMER = Convention(
    "layoutformer",
    "LayoutFormer++, LayoutDiffusion, LayoutFlow",
    20,
    True,
    ("List Item", "Card", "Background Image", "Modal"),  # classes of RICO
)
LAYOUTDM = Convention("layoutdm", "LayoutDM, LACE", 25, True)
FORMULA = Convention("formula", "no paper: the formulas as they are written", 25, False)
CONVENTIONS = {each.name: each for each in (LAYOUTFORMER, LAYOUTDM, FORMULA)}


def find_convention(name: "str | Convention") -> Convention:
    """Return a convention by its name.

    Raises:
        GraftError: There is no convention of that name.
    """
    if isinstance(name, Convention):
        return name
    if name not in CONVENTIONS:
        raise GraftError(f"there is no convention {name!r} of layout metrics: {' or '.join(CONVENTIONS)}")
    return CONVENTIONS[name]


PRINTED = {
    "fid": ("FID ↓", 1, 2),
    "alignment": ("Alignment x 100 ↓", 100, 4),
    "overlap": ("Overlap ↓", 1, 4),
    "max_iou": ("MaxIoU ↑", 1, 3),
    "w_class": ("W_class ↓", 1, 4),
    "w_bbox": ("W_bbox ↓", 1, 4),
    "coverage": ("Coverage ↑", 1, 3),
    "elements": ("Elements", 1, 2),
    "w_elements": ("W_elements ↓", 1, 2),
}
"""Column, factor and decimals of each figure; figures are multiplied in tables only."""


def metrics_table(rows: Mapping[str, Mapping[str, float]], of: "str | Convention") -> str:
    """Return figures by row and name as a Markdown table that names its convention."""
    kind = find_convention(of)
    shown = [name for name in PRINTED if any(name in figures for figures in rows.values())]
    lines = [
        "| " + " | ".join(["", *(PRINTED[name][0] for name in shown)]) + " |",
        "|---" * (len(shown) + 1) + "|",
    ]
    for title, figures in rows.items():
        cells = [_cell(name, figures.get(name)) for name in shown]
        lines.append("| " + " | ".join([title, *cells]) + " |")
    padding = ", Alignment to padding too" if kind.align_to_padding else ""
    ignoring = f", Overlap without {', '.join(kind.overlap_ignored_classes)}" if kind.overlap_ignored_classes else ""
    lines += [
        "",
        f"Convention `{kind.name}` ({kind.papers}): up to {kind.max_elements} elements a page{padding}{ignoring}.",
    ]
    return "\n".join(lines)


def _cell(name: str, value: "float | None") -> str:
    _, factor, decimals = PRINTED[name]
    return "–" if value is None or value != value else f"{value * factor:.{decimals}f}"
