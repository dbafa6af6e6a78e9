"""Many layouts as padded arrays, and which elements and layouts of a source cannot be used."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.layouts.layout import Layout

Element = tuple["str | int", Sequence[float]]
"""Class name, or its position among the names; left, top, right, bottom as fractions of the page."""

OUTSIDE = 0.01  # of the page: boxes that stick out by no more are cut at its edge


@dataclass
class Collection:
    """M layouts of at most N elements.

    Attributes:
        labels: (M, N) int64, 0 beyond a layout's elements.
        boxes: (M, N, 4) float32 left, top, right, bottom, fractions of the page; 0 beyond.
        counts: (M,) int64.
        names: Of the classes.
        left_out: How many elements and layouts could not be used, by reason.
    """

    labels: NDArray[np.int64]
    boxes: NDArray[np.float32]
    counts: NDArray[np.int64]
    names: tuple[str, ...]
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.counts)

    def take(self, rows: NDArray[Any]) -> "Collection":
        """Some of them."""
        return Collection(self.labels[rows], self.boxes[rows], self.counts[rows], self.names)

    def layouts(self) -> list[Layout]:
        """As objects."""
        return [
            Layout(labels[:n], boxes[:n].astype(np.float64), self.names)
            for labels, boxes, n in zip(self.labels, self.boxes, self.counts.tolist(), strict=True)
        ]


def collect(records: Iterable["list[Element]"], names: tuple[str, ...], most: int) -> Collection:
    """The usable layouts of ``records``.

    Elements of unknown classes, without an area or outside the page (by more than `OUTSIDE`) are left out; layouts that
    then have no element, or more than ``most``, are too.
    """
    index: dict[str | int, int] = {name: i for i, name in enumerate(names)} | {i: i for i in range(len(names))}
    lower = {name.lower(): i for i, name in enumerate(names)}
    left_out: Counter[str] = Counter()
    kept: list[list[tuple[int, Sequence[float]]]] = []
    for record in records:
        usable = []
        for name, box in record:
            label = index.get(name, lower.get(name.lower()) if isinstance(name, str) else None)
            why = f"elements of unknown class {name!r}" if label is None else _unusable(box)
            if label is None or why:
                left_out[why] += 1
            else:
                usable.append((label, box))
        if not usable:
            left_out["empty layouts"] += 1
        elif len(usable) > most:
            left_out[f"layouts of more than {most} elements"] += 1
        else:
            kept.append(usable)
    counts = np.array([len(usable) for usable in kept], np.int64)
    labels, boxes = np.zeros((len(kept), most), np.int64), np.zeros((len(kept), most, 4), np.float32)
    for i, usable in enumerate(kept):
        labels[i, : counts[i]] = [label for label, _ in usable]
        boxes[i, : counts[i]] = [box for _, box in usable]
    return Collection(labels, boxes.clip(0, 1), counts, names, dict(left_out))


def _unusable(box: Sequence[float]) -> str:
    """Why, or nothing."""
    if len(box) != 4 or not all(-OUTSIDE <= place <= 1 + OUTSIDE for place in box):  # not a number is outside too
        return "elements with a box outside the page"
    return "" if box[0] < box[2] and box[1] < box[3] else "elements with a box of no area"
