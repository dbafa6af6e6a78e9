"""Rewards of a layout. Any Python callable of one `Layout` can be one as well; `graft.reward.WeightedSum` sums them."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from domains.layouts.layout import Layout, classes_of
from domains.layouts.metrics import LayoutBatch, alignment, overlap
from domains.layouts.metrics.elements import areas, intersections
from graft.errors import GraftError
from graft.reward import Reward, Scores


class _Batched(Reward):
    """A reward of many layouts at once."""

    @abstractmethod
    def each(self, pages: LayoutBatch) -> Tensor:
        """(B,) of each layout."""

    def score(self, item: Any) -> float:
        """The reward."""
        return float(self.each(LayoutBatch.of([item]))[0])

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every layout; if one cannot be, one by one, so that the failure is its own."""
        try:
            values = self.each(LayoutBatch.of(items))
        except (TypeError, ValueError, RuntimeError):
            return super().__call__(items)
        return Scores(values.tolist()) if bool(values.isfinite().all()) else super().__call__(items)


class NegativeAlignment(_Batched):
    """Minus the alignment x 100, see `domains.layouts.metrics.quality.alignment`; 0 at best, and for one element.

    Args:
        tolerance: So much is none: pages that have less than real ones are not preferred.
    """

    name = "minus alignment x 100"

    def __init__(self, tolerance: float = 0.0) -> None:
        self.tolerance = _tolerance(tolerance)

    def each(self, pages: LayoutBatch) -> Tensor:
        """See the class."""
        return -(100 * alignment(pages) - self.tolerance).clamp(min=0)


class NegativeOverlap(_Batched):
    """Minus the overlap, see `domains.layouts.metrics.quality.overlap`; 0 at best.

    Args:
        ignored: Positions of classes that are meant to lie over others.
        tolerance: So much is none.
    """

    name = "minus overlap"

    def __init__(self, ignored: Sequence[int] = (), tolerance: float = 0.0) -> None:
        self.ignored, self.tolerance = tuple(ignored), _tolerance(tolerance)

    def each(self, pages: LayoutBatch) -> Tensor:
        """See the class."""
        return -(overlap(pages, self.ignored) - self.tolerance).clamp(min=0)


def _tolerance(value: float) -> float:
    if not value >= 0:
        raise GraftError(f"a tolerance of {value:g} means nothing: it is at least 0")
    return value


class InPage(_Batched):
    """The mean share of a box's area that is on the page; 1 at best."""

    name = "in page"

    def each(self, pages: LayoutBatch) -> Tensor:
        """See the class."""
        share = areas(pages.boxes.clamp(0, 1)) / areas(pages.boxes).clamp(min=1e-9)
        return (share * pages.mask).sum(1) / pages.counts.clamp(min=1)


class Margins(_Batched):
    """Minus how far, on average, boxes reach into the margins, and how much nearer than the gutter the nearest box is.

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

    def each(self, pages: LayoutBatch) -> Tensor:
        """See the class; in fractions of the page, 0 at best."""
        low, high = pages.boxes[..., :2], pages.boxes[..., 2:]
        missed = (self.margin - low).clamp(min=0).amax(-1) + (high - (1 - self.margin)).clamp(min=0).amax(-1)
        apart = torch.maximum(low[:, :, None] - high[:, None], low[:, None] - high[:, :, None]).amax(-1)
        pairs = pages.mask[:, :, None] & pages.mask[:, None] & ~torch.eye(apart.shape[1], dtype=torch.bool)
        near = torch.where(pairs & (apart >= 0), self.gutter - apart, 0.0).clamp(min=0).amax(-1)
        return -((missed + near) * pages.mask).sum(1) / pages.counts.clamp(min=1)


class TargetLayoutIoU(Reward):
    """How near a layout is to a wanted one: the best one-to-one IoU of elements of one class, as in MaxIoU.

    1 where they are the same; an element that the other lacks counts 0.

    Args:
        path: The wanted layout: the first of a file that `domains.layouts.readers.read` reads.
        classes: Names of the classes, or ``rico``.
        elements: The most of a layout.
    """

    name = "IoU with the brief"

    def __init__(self, path: str, classes: "list[str | int] | str | int | None" = None, elements: int = 25) -> None:
        from domains.layouts.readers import read

        self.wanted = read(path, classes_of(classes), elements).layouts()[0]
        self.path = Path(path).name

    def score(self, item: Layout) -> float:
        """See the class."""
        total = 0.0
        for label in np.intersect1d(item.labels, self.wanted.labels):
            a, b = (torch.from_numpy(each.boxes[each.labels == label]) for each in (item, self.wanted))
            shared = intersections(a[:, None], b)
            found = (shared / (areas(a)[:, None] + areas(b) - shared).clamp(min=1e-9)).numpy()
            total += float(found[linear_sum_assignment(found, maximize=True)].sum())
        return total / max(len(item), len(self.wanted))
