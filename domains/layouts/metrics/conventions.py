"""The two families of layout papers, whose figures are not to be mixed, and tables that name the one they are of.

Both families' public code for Alignment compares elements with the padding of the batch as well; the formula does not
say so, and `FORMULA` is for what it says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domains.layouts.metrics.elements import Elements, LayoutBatch
from graft.errors import GraftError


@dataclass(frozen=True)
class Convention:
    """What one family measures, and on what.

    Attributes:
        name: For tables.
        papers: That follow it.
        max_elements: Layouts with more elements are not part of its data: they are left out.
        align_to_padding: Alignment compares with padding too, see `domains.layouts.metrics.quality.alignment`.
        overlap_ignored_classes: Names of classes that are meant to lie over others: Overlap is of the other elements.
    """

    name: str
    papers: str
    max_elements: int
    align_to_padding: bool
    overlap_ignored_classes: tuple[str, ...] = ()

    def pages(self, items: "Sequence[Elements] | LayoutBatch") -> LayoutBatch:
        """The layouts that are measured."""
        pages = LayoutBatch.of(items)
        return pages[pages.counts <= self.max_elements]

    def ignored(self, names: Sequence[str]) -> tuple[int, ...]:
        """The classes that Overlap leaves out, of a data set whose classes are ``names``."""
        return tuple(i for i, name in enumerate(names) if name in self.overlap_ignored_classes)


LAYOUTFORMER = Convention(
    "layoutformer",
    "LayoutFormer++, LayoutDiffusion, LayoutFlow",
    20,
    True,
    ("List Item", "Card", "Background Image", "Modal"),  # of RICO
)
LAYOUTDM = Convention("layoutdm", "LayoutDM, LACE", 25, True)
FORMULA = Convention("formula", "no paper: the formulas as they are written", 25, False)
CONVENTIONS = {each.name: each for each in (LAYOUTFORMER, LAYOUTDM, FORMULA)}


def convention(name: "str | Convention") -> Convention:
    """By name.

    Raises:
        GraftError: There is none of that name.
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
"""Column, factor and decimals of each figure; a table is the only place where one is multiplied."""


def table(rows: Mapping[str, Mapping[str, float]], of: "str | Convention") -> str:
    """Figures by row and name as a Markdown table that says which convention they follow."""
    kind = convention(of)
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
    return "–" if value is None else f"{value * factor:.{decimals}f}"
