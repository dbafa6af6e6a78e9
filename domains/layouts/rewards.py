"""Rewards of a layout.

Any Python callable of a `Layout` can be a reward too; `graft.reward.WeightedSum` sums several.
"""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from typing_extensions import override

from domains.layouts.layout import Layout, classes_of
from domains.layouts.metrics import LayoutBatch, alignment, overlap
from domains.layouts.metrics.elements import areas, intersections
from graft.core import limits
from graft.reward import Reward, Scores, score_batches


class _Batched(Reward):
    """A reward of many layouts at once."""

    @abstractmethod
    def each(self, pages: LayoutBatch) -> Tensor:
        """Return (B,) rewards."""

    @override
    def score(self, item: Any) -> float:
        return float(self.each(LayoutBatch.of([item]))[0])

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        return score_batches(self, items, [range(len(items))], lambda pages: self.each(LayoutBatch.of(pages)).tolist())


class NegativeAlignment(_Batched):
    """Minus the alignment x 100 (`metrics.quality.alignment`); 0 at best, and for one element.

    Args:
        tolerance: Alignment up to which the reward is 0, so that pages below that of real ones are not preferred.
    """

    name = "minus alignment x 100"

    def __init__(self, tolerance: float = 0.0) -> None:
        limits.check("data.reward.tolerance", tolerance, 0)
        self.tolerance = tolerance

    @override
    def each(self, pages: LayoutBatch) -> Tensor:
        return -(100 * alignment(pages) - self.tolerance).clamp(min=0)


class NegativeOverlap(_Batched):
    """Minus the overlap (`metrics.quality.overlap`); 0 at best.

    Args:
        ignored: Positions of classes that may lie over others.
        tolerance: Overlap up to which the reward is 0.
    """

    name = "minus overlap"

    def __init__(self, ignored: Sequence[int] = (), tolerance: float = 0.0) -> None:
        limits.check("data.reward.tolerance", tolerance, 0)
        self.ignored, self.tolerance = tuple(ignored), tolerance

    @override
    def each(self, pages: LayoutBatch) -> Tensor:
        return -(overlap(pages, self.ignored) - self.tolerance).clamp(min=0)


class InPage(_Batched):
    """Mean share of a box's area that is on the page; 1 at best."""

    name = "in page"

    @override
    def each(self, pages: LayoutBatch) -> Tensor:
        share = areas(pages.boxes.clamp(0, 1)) / areas(pages.boxes).clamp(min=1e-9)
        return (share * pages.mask).sum(1) / pages.counts.clamp(min=1)


class Margins(_Batched):
    """Minus mean intrusion into the margins and gutters, in fractions of the page; 0 at best.

    For each box it adds how far the box reaches into the margins, and how much nearer than the gutter its nearest box
    is.

    Args:
        margin: Width of the margin on every side, as a fraction of the page.
        gutter: Smallest distance of two boxes that do not overlap, as a fraction of the page.
    """

    name = "minus margins and gutters missed"

    def __init__(self, margin: float = 0.06, gutter: float = 0.01) -> None:
        limits.check("data.reward.margin", margin, 0, 0.5, below=True)
        limits.check("data.reward.gutter", gutter, 0, 1, below=True)
        self.margin, self.gutter = margin, gutter

    @override
    def each(self, pages: LayoutBatch) -> Tensor:
        low, high = pages.boxes[..., :2], pages.boxes[..., 2:]
        missed = (self.margin - low).clamp(min=0).amax(-1) + (high - (1 - self.margin)).clamp(min=0).amax(-1)
        apart = torch.maximum(low[:, :, None] - high[:, None], low[:, None] - high[:, :, None]).amax(-1)
        pairs = pages.mask[:, :, None] & pages.mask[:, None] & ~torch.eye(apart.shape[1], dtype=torch.bool)
        near = torch.where(pairs & (apart >= 0), self.gutter - apart, 0.0).clamp(min=0).amax(-1)
        return -((missed + near) * pages.mask).sum(1) / pages.counts.clamp(min=1)


class TargetLayoutIoU(Reward):
    """Nearness to a target layout: the best one-to-one IoU within each class.

    The reward is computed as in MaxIoU. It is 1 for equal layouts; an element without a partner counts 0.

    Args:
        path: Target layout: the first one of a file that `domains.layouts.readers.read` reads.
        classes: Names of the classes, or ``rico``.
        elements: Largest number of elements of a layout.
    """

    name = "IoU with the brief"

    def __init__(self, path: str, classes: "list[str | int] | str | int | None" = None, elements: int = 25) -> None:
        from domains.layouts.readers import read_layouts

        self.wanted = read_layouts(path, classes_of(classes), elements).layouts()[0]
        self.path = Path(path).name

    @override
    def score(self, item: Layout) -> float:
        total = 0.0
        for label in np.intersect1d(item.labels, self.wanted.labels):
            a, b = (torch.from_numpy(each.boxes[each.labels == label]) for each in (item, self.wanted))
            shared = intersections(a[:, None], b)
            found = (shared / (areas(a)[:, None] + areas(b) - shared).clamp(min=1e-9)).numpy()
            total += float(found[linear_sum_assignment(found, maximize=True)].sum())
        return total / max(len(item), len(self.wanted))
