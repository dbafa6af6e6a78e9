"""W_class and W_bbox: distances of the classes, places and sizes of two sets.

They are figures of LayoutFlow.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from scipy.stats import wasserstein_distance
from torch import Tensor
from torchmetrics import Metric
from typing_extensions import override

from domains.layouts.metrics.conventions import Convention
from domains.layouts.metrics.conventions import find_convention as by_name
from domains.layouts.metrics.elements import Elements, LayoutBatch
from graft.domain.metrics import Collected


def class_counts(pages: LayoutBatch, classes: int) -> Tensor:
    """Return (classes,) number of elements of each class."""
    return torch.bincount(pages.labels[pages.mask], minlength=classes)


def w_class(a: Tensor, b: Tensor) -> float:
    """Return Σ |p − q| of the class frequencies of two sets with counts (classes,), in [0, 2].

    It is NaN if a set has no elements.
    """
    p, q = (counts.double() / counts.sum() for counts in (a, b))
    return float((p - q).abs().sum())


def w_bbox(a: Tensor, b: Tensor) -> float:
    """Return the mean 1-D Wasserstein distance of centre x, centre y, width and height, in page sizes.

    It is NaN if a set has no elements.

    Args:
        a: (n, 4) elements.
        b: (m, 4) elements.
    """
    return sum(_distance(a[:, i], b[:, i]) for i in range(4)) / 4


def _distance(a: Tensor, b: Tensor) -> float:
    """Return the Wasserstein distance of numbers (n,) and (m,); NaN without numbers."""
    return float(wasserstein_distance(a.numpy(), b.numpy())) if len(a) and len(b) else math.nan


class WClass(Metric):
    """`w_class` of the layouts and the real ones.

    Args:
        real: Real layouts.
        classes: Number of classes.
        convention: Convention of `domains.layouts.metrics.conventions`.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    full_state_update = False
    higher_is_better = False
    counts: Tensor

    def __init__(
        self, real: "Sequence[Elements] | LayoutBatch", classes: int, convention: "str | Convention", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.convention, self.classes = by_name(convention), classes
        self.real = class_counts(self.convention.pages(real), classes)
        self.add_state("counts", torch.zeros(classes, dtype=torch.long), dist_reduce_fx="sum")

    @override
    def update(self, items: "Sequence[Elements] | LayoutBatch") -> None:
        self.counts += class_counts(self.convention.pages(items), self.classes).to(self.device)

    @override
    def compute(self) -> Tensor:
        return torch.tensor(w_class(self.counts.cpu(), self.real), dtype=torch.float64)


class _Values(Collected):
    """A comparison of values of the elements or layouts with those of real ones."""

    higher_is_better = False

    def __init__(self, real: "Sequence[Elements] | LayoutBatch", convention: "str | Convention", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convention = by_name(convention)
        self.real = self.values_of(self.convention.pages(real))

    def values_of(self, pages: LayoutBatch) -> Tensor:
        """Return (n, 4) or (n,) values of layouts."""
        raise NotImplementedError

    @override
    def update(self, items: "Sequence[Elements] | LayoutBatch") -> None:
        self.collect(self.values_of(self.convention.pages(items)))

    @property
    def seen(self) -> Tensor:
        """All values that were kept."""
        return self.collected(self.real[:0]).cpu()


class WBbox(_Values):
    """`w_bbox` of the layouts and the real ones.

    Args:
        real: Real layouts.
        convention: Convention of `domains.layouts.metrics.conventions`.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    @override
    def values_of(self, pages: LayoutBatch) -> Tensor:
        return pages.center_size

    @override
    def compute(self) -> Tensor:
        return torch.tensor(w_bbox(self.seen, self.real), dtype=torch.float64)


class WElements(_Values):
    """Wasserstein distance of the numbers of elements of the layouts and of the real ones.

    No paper reports it; it shows the effect of a reward on the number of elements.

    Args:
        real: Real layouts.
        convention: Convention of `domains.layouts.metrics.conventions`.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    @override
    def values_of(self, pages: LayoutBatch) -> Tensor:
        return pages.counts.double()

    @override
    def compute(self) -> Tensor:
        return torch.tensor(_distance(self.seen, self.real), dtype=torch.float64)
