"""Layouts as padded arrays, and the invalid elements and layouts of a source."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.layouts.layout import Layout
from domains.layouts.readers.record import Element, LayoutRecord, Unusable
from graft.errors import GraftError
from graft.io.invalid_records import count_by_reason

__all__ = ["OUTSIDE", "Element", "LayoutSet", "pack_records"]

OUTSIDE = 0.01  # fraction of the page; boxes that reach outside by no more are cut at its edge
MOST_FAULTY = 0.5  # largest share of faulty elements or layouts of a source


@dataclass
class LayoutSet:
    """M layouts of at most N elements.

    Attributes:
        labels: (M, N) int64, 0 for padding.
        boxes: (M, N, 4) float32 left, top, right, bottom, fractions of the page; 0 for padding.
        counts: (M,) int64 number of elements.
        names: Names of the classes.
        left_out: Number of invalid elements and layouts by reason.
        named: (place in the source, reason) of each of them.
    """

    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    counts: NDArray[np.int64]
    names: tuple[str, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    named: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.counts)

    def take(self, rows: NDArray[Any]) -> "LayoutSet":
        """Return the layouts at ``rows``."""
        return LayoutSet(self.labels[rows], self.boxes[rows], self.counts[rows], self.names)

    def layouts(self) -> list[Layout]:
        """Return the layouts as objects."""
        return [
            Layout(labels[:n], boxes[:n].astype(np.float64), self.names)
            for labels, boxes, n in zip(self.labels, self.boxes, self.counts.tolist(), strict=True)
        ]


def pack_records(
    records: "Iterable[LayoutRecord | Unusable]", names: tuple[str, ...], most: int, source: str = "the source"
) -> LayoutSet:
    """Return the usable layouts of ``records``.

    Elements of unknown classes, without an area or outside the page (by more than `OUTSIDE`) are left out. Layouts that
    then have no element, or more than ``most``, are left out too.

    Args:
        records: Records of one source.
        names: Names of the classes.
        most: Largest number of elements of a layout.
        source: Name of the source in messages.

    Raises:
        GraftError: More than half of the elements, or of the layouts, are faulty.
    """
    index: dict[str | int, int] = {name: i for i, name in enumerate(names)} | {i: i for i in range(len(names))}
    lower = {name.lower(): i for i, name in enumerate(names)}
    left_out: list[Unusable] = []
    kept: list[list[tuple[int, Sequence[float]]]] = []
    elements = layouts = 0
    for record in records:
        if isinstance(record, Unusable):
            elements, layouts = elements + (not record.layout), layouts + record.layout
            left_out.append(record)
            continue
        layouts += 1
        elements += len(record.elements)
        usable = []
        for each in record.elements:
            if isinstance(each, Unusable):
                left_out.append(each)
                continue
            name, box = each
            label = index.get(name, lower.get(name.lower()) if isinstance(name, str) else None)
            if label is None:
                left_out.append(Unusable(f"elements of unknown class {name!r}", record.name, faulty=False))
            elif why := _unusable(box):
                left_out.append(Unusable(why, record.name))
            else:
                usable.append((label, box))
        if not usable:
            left_out.append(Unusable("empty layouts", record.name, layout=True, faulty=False))
        elif len(usable) > most:
            why = f"layouts of more than {most} elements"
            left_out.append(Unusable(why, record.name, layout=True, faulty=False))
        else:
            kept.append(usable)
    _refuse(left_out, elements, layouts, source)
    counts = np.array([len(usable) for usable in kept], np.int64)
    labels, boxes = np.zeros((len(kept), most), np.int64), np.zeros((len(kept), most, 4), np.float32)
    for i, usable in enumerate(kept):
        labels[i, : counts[i]] = [label for label, _ in usable]
        boxes[i, : counts[i]] = [box for _, box in usable]
    named = [(each.name, each.why) for each in left_out]
    return LayoutSet(labels, boxes.clip(0, 1), counts, names, count_by_reason(named), named)


def _refuse(left_out: Sequence[Unusable], elements: int, layouts: int, source: str) -> None:
    """Raise GraftError if most elements or most layouts are faulty.

    The file then is probably of another format.
    """
    for layout, total, what in ((False, elements, "elements"), (True, layouts, "layouts")):
        faulty = [each for each in left_out if each.faulty and each.layout == layout]
        if len(faulty) > MOST_FAULTY * total:
            raise GraftError(
                f"{len(faulty)} of the {total} {what} of {source} cannot be used (first: {faulty[0].name}: "
                f"{faulty[0].why}); at least half must be usable: mend the file"
            )


def _unusable(box: Sequence[float]) -> str:
    """Return why a box is invalid, or ""."""
    if len(box) != 4 or not all(map(math.isfinite, box)):
        return "elements with a box that is not finite"
    if not all(-OUTSIDE <= place <= 1 + OUTSIDE for place in box):
        return "elements with a box outside the page"
    return "" if box[0] < box[2] and box[1] < box[3] else "elements with a box of no area"
