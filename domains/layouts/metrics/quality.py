"""Alignment and Overlap of each layout by itself (Kikuchi et al. 2021)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import override

from domains.layouts.metrics.conventions import Convention, find_convention
from domains.layouts.metrics.elements import Elements, LayoutBatch, areas, intersections

CHUNK = 512  # layouts at a time, to limit memory


def alignment(pages: LayoutBatch, places: int = 0) -> Tensor:
    r"""Return (B,) Alignment of each layout, a fraction (papers print it x 100).

    .. math:: \frac{1}{N} \sum_i -\log(1 - d_i), \qquad d_i = \min_{a,\ j \ne i} |a_i - a_j|,

    a among left, centre-x, right, top, centre-y and bottom; 0 for one element or none.

    Args:
        pages: Layouts.
        places: Number of elements up to which padding takes part, as boxes at the page's left top corner, as in the
            public code of both families. Padding lowers d_i near the margins, and gives a single element one.
    """
    return _chunked(lambda some: _alignment(some, places), pages)


def _alignment(pages: LayoutBatch, places: int) -> Tensor:
    low, high = pages.boxes[..., :2], pages.boxes[..., 2:]
    lines = torch.cat([low, (low + high) / 2, high], -1)  # (B, N, 6)
    gaps = torch.full((*pages.labels.shape, pages.labels.shape[1]), torch.inf, dtype=lines.dtype)  # (B, N, N)
    for line in lines.unbind(-1):
        gaps = torch.minimum(gaps, (line[:, :, None] - line[:, None]).abs())
    pairs = pages.mask[:, :, None] & pages.mask[:, None]
    pairs = pairs & ~torch.eye(gaps.shape[1], dtype=torch.bool)
    nearest = gaps.masked_fill(~pairs, torch.inf).amin(-1)
    corner = lines.abs().amin(-1).masked_fill((pages.counts >= places)[:, None] | ~pages.mask, torch.inf)
    nearest = torch.minimum(nearest, corner)
    nearest = torch.where(nearest.isinf(), 0.0, nearest).clamp(max=1 - 1e-9)  # boxes far outside the page exceed 1
    return -torch.log1p(-nearest).sum(1) / pages.counts.clamp(min=1)


def overlap(pages: LayoutBatch, ignored: Sequence[int] = ()) -> Tensor:
    r"""Return (B,) Overlap of each layout.

    .. math:: \frac{1}{N} \sum_i \sum_{j \ne i} area(i \cap j) / area(i)

    Args:
        pages: Layouts.
        ignored: Classes with elements that are left out, also from N.
    """
    return _chunked(_overlap, pages.without(ignored) if ignored else pages)


def _overlap(pages: LayoutBatch) -> Tensor:
    shared = intersections(pages.boxes[:, :, None], pages.boxes[:, None])
    shared.diagonal(dim1=1, dim2=2).zero_()
    own = areas(pages.boxes)[..., None]
    ratio = torch.where(own > 0, shared / own.clamp(min=1e-300), 0.0)  # a box without area is not covered
    return ratio.sum((1, 2)) / pages.counts.clamp(min=1)


def _chunked(function: Any, pages: LayoutBatch) -> Tensor:
    parts = [function(pages[i : i + CHUNK]) for i in range(0, len(pages), CHUNK)]
    return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)


class _Mean(Metric):
    """Mean over the layouts of a figure of each; NaN without layouts."""

    full_state_update = False
    higher_is_better: "bool | None" = False
    total: Tensor
    count: Tensor

    def __init__(self, convention: "str | Convention", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convention = find_convention(convention)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def each(self, pages: LayoutBatch) -> Tensor:
        """Return (B,) figures."""
        raise NotImplementedError

    @override
    def update(self, items: "Sequence[Elements] | LayoutBatch") -> None:
        found = self.each(self.convention.pages(items))
        self.total += found.sum().to(self.device)
        self.count += len(found)

    @override
    def compute(self) -> Tensor:
        return self.total / self.count


class Alignment(_Mean):
    """Mean `alignment`.

    Args:
        convention: Convention of `domains.layouts.metrics.conventions`.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    @override
    def each(self, pages: LayoutBatch) -> Tensor:
        return alignment(pages, self.convention.max_elements if self.convention.align_to_padding else 0)


class Overlap(_Mean):
    """Mean `overlap`.

    Args:
        convention: Convention of `domains.layouts.metrics.conventions`.
        names: Names of the classes; the convention leaves some of them out.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    def __init__(self, convention: "str | Convention", names: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(convention, **kwargs)
        self.ignored = self.convention.ignored(names)

    @override
    def each(self, pages: LayoutBatch) -> Tensor:
        return overlap(pages, self.ignored)


class ElementCount(_Mean):
    """Mean number of elements; rewards tend to prefer pages with few."""

    higher_is_better = None

    @override
    def each(self, pages: LayoutBatch) -> Tensor:
        return pages.counts.double()
