"""Rewards of a layout. Any Python callable of one `Layout` can be one as well."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domains.layouts.layout import PUBLAYNET, Layout
from graft.errors import GraftError
from graft.reward import Reward


class MinusAlignment(Reward):
    """Minus 100 times the alignment: (1/N) Σ_i −log(1 − d_i), d_i the smallest difference of a line to another element's.

    0 at best, and for a single element.
    """

    name = "minus alignment x 100"

    def score(self, item: Layout) -> float:
        """The reward."""
        return -100 * alignment(item)


class MinusOverlap(Reward):
    """Minus the overlap: (1/N) Σ_i Σ_{j≠i} area(i ∩ j) / area(i); 0 at best."""

    name = "minus overlap"

    def score(self, item: Layout) -> float:
        """The reward."""
        return -overlap(item)


class InPage(Reward):
    """The share of the boxes' area that is on the page; 1 at best."""

    name = "in page"

    def score(self, item: Layout) -> float:
        """The reward."""
        inside = _area(item.boxes.clip(0, 1))
        return float((inside / np.maximum(_area(item.boxes), 1e-9)).mean())


class Margins(Reward):
    """Minus how far, on average, boxes reach into the margins, and how much nearer than the gutter neighbours are.

    Args:
        margin: Of the page on every side, as a fraction of it.
        gutter: The least distance of two boxes that do not overlap, as a fraction of the page.
    """

    name = "minus margins and gutters missed"

    def __init__(self, margin: float = 0.06, gutter: float = 0.01) -> None:
        if not 0 <= margin < 0.5 or not 0 <= gutter < 1:
            raise GraftError(
                f"margin {margin:g} and gutter {gutter:g} are fractions of the page: below 0.5, and below 1"
            )
        self.margin, self.gutter = margin, gutter

    def score(self, item: Layout) -> float:
        """The reward, in fractions of the page; 0 at best."""
        low, high = item.boxes[:, :2], item.boxes[:, 2:]
        missed = np.maximum(self.margin - low, 0).max(1) + np.maximum(high - (1 - self.margin), 0).max(1)
        apart = np.maximum(low[:, None] - high[None], low[None] - high[:, None])  # (n, n, 2), negative where they share
        distance = apart.max(-1)
        near = np.where((distance >= 0) & (distance < self.gutter), self.gutter - distance, 0.0)
        np.fill_diagonal(near, 0)
        return -float((missed + near.max(1)).mean())


class Brief(Reward):
    """How near a layout is to a wanted one: the best one-to-one IoU of elements of equal class, over all of both.

    1 where they are the same; an element of either that the other lacks counts 0.

    Args:
        path: The wanted layout: the first of a file that `domains.layouts.sources.read` reads.
        classes: Names of the classes.
        elements: The most of a layout.
    """

    name = "IoU with the brief"

    def __init__(self, path: str, classes: "list[str] | None" = None, elements: int = 25) -> None:
        from domains.layouts.sources import read

        self.wanted = read(path, tuple(classes) if classes is not None else PUBLAYNET, elements).layouts()[0]
        self.path = Path(path).name

    def score(self, item: Layout) -> float:
        """The reward."""
        from scipy.optimize import linear_sum_assignment

        total = 0.0
        for label in set(item.labels.tolist()) & set(self.wanted.labels.tolist()):
            found = iou(item.boxes[item.labels == label], self.wanted.boxes[self.wanted.labels == label])
            rows, columns = linear_sum_assignment(-found)
            total += float(found[rows, columns].sum())
        return total / max(len(item), len(self.wanted))


def alignment(item: Layout) -> float:
    """(1/N) Σ −log(1 − d_i), d_i = min over six lines and j ≠ i of |a_i − a_j|; 0 for fewer than two elements."""
    if len(item) < 2:
        return 0.0
    low, high = item.boxes[:, :2], item.boxes[:, 2:]
    lines = np.concatenate([low, (low + high) / 2, high], 1)
    apart = np.abs(lines[:, None] - lines[None]).min(-1)
    np.fill_diagonal(apart, np.inf)
    return float(-np.log1p(-apart.min(1).clip(0, 1 - 1e-9)).mean())


def overlap(item: Layout) -> float:
    """(1/N) Σ_i Σ_{j≠i} area(i ∩ j) / area(i); 0 for fewer than two elements."""
    if len(item) < 2:
        return 0.0
    shared = _shared(item.boxes, item.boxes)
    np.fill_diagonal(shared, 0)
    return float((shared.sum(1) / np.maximum(_area(item.boxes), 1e-9)).mean())


def iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) intersection over union of boxes (n, 4) and (m, 4)."""
    shared = _shared(a, b)
    return shared / np.maximum(_area(a)[:, None] + _area(b)[None] - shared, 1e-9)


def _area(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(1)


def _shared(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    area: NDArray[np.float64] = (high - low).clip(0).prod(-1)
    return area
