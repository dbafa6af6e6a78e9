"""W_class and W_bbox: whether a set has the classes, the places and the sizes of another (LayoutFlow's figures)."""

from collections.abc import Sequence
from typing import Any

import torch
from scipy.stats import wasserstein_distance
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from domains.layouts.metrics.conventions import Convention
from domains.layouts.metrics.conventions import convention as by_name
from domains.layouts.metrics.elements import Elements, LayoutBatch


def class_counts(pages: LayoutBatch, classes: int) -> Tensor:
    """(classes,) how many elements there are of each."""
    return torch.bincount(pages.labels[pages.mask], minlength=classes)


def w_class(a: Tensor, b: Tensor) -> float:
    """Σ |p − q| of the class frequencies of two sets with counts a and b (classes,), in [0, 2]."""
    p, q = (counts.double() / counts.sum().clamp(min=1) for counts in (a, b))
    return float((p - q).abs().sum())


def w_bbox(a: Tensor, b: Tensor) -> float:
    """The mean over xc, yc, w and h of the 1-D Wasserstein distance of elements (n, 4) and (m, 4), in page sizes."""
    if not len(a) or not len(b):
        return 0.0
    return float(sum(wasserstein_distance(a[:, i].numpy(), b[:, i].numpy()) for i in range(4)) / 4)


class WClass(Metric):
    """`w_class` of the layouts seen and the real ones.

    Args:
        real: The real layouts.
        classes: How many there are.
        convention: See `domains.layouts.metrics.conventions`.
        **kwargs: Of `torchmetrics.Metric`.
    """

    full_state_update = False
    higher_is_better = False
    counts: Tensor

    def __init__(
        self,
        real: "Sequence[Elements] | LayoutBatch",
        classes: int,
        convention: "str | Convention" = "layoutformer",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.convention, self.classes = by_name(convention), classes
        self.real = class_counts(self.convention.pages(real), classes)
        self.add_state("counts", torch.zeros(classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, items: "Sequence[Elements] | LayoutBatch") -> None:
        """Count some layouts' classes."""
        self.counts += class_counts(self.convention.pages(items), self.classes).to(self.device)

    def compute(self) -> Tensor:
        """The distance."""
        return torch.tensor(w_class(self.counts.cpu(), self.real), dtype=torch.float64)


class _Values(Metric):
    """Numbers of the elements or layouts seen, beside the real ones'."""

    full_state_update = False
    higher_is_better = False
    values: "list[Tensor] | Tensor"

    def __init__(
        self, real: "Sequence[Elements] | LayoutBatch", convention: "str | Convention" = "layoutformer", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.convention = by_name(convention)
        self.real = self.of(self.convention.pages(real))
        self.add_state("values", [], dist_reduce_fx="cat")

    def of(self, pages: LayoutBatch) -> Tensor:
        """(n, 4) or (n,) of layouts."""
        raise NotImplementedError

    def update(self, items: "Sequence[Elements] | LayoutBatch") -> None:
        """Note some layouts."""
        assert isinstance(self.values, list)
        self.values.append(self.of(self.convention.pages(items)).to(self.device))

    @property
    def seen(self) -> Tensor:
        """All that was noted."""
        return dim_zero_cat(self.values).cpu() if len(self.values) else self.real[:0]


class WBbox(_Values):
    """`w_bbox` of the layouts seen and the real ones.

    Args:
        real: The real layouts.
        convention: See `domains.layouts.metrics.conventions`.
        **kwargs: Of `torchmetrics.Metric`.
    """

    def of(self, pages: LayoutBatch) -> Tensor:
        """Centres and sizes."""
        return pages.center_size

    def compute(self) -> Tensor:
        """The distance."""
        return torch.tensor(w_bbox(self.seen, self.real), dtype=torch.float64)


class WElements(_Values):
    """The Wasserstein distance of the numbers of elements of the layouts seen and of the real ones, in elements.

    No published figure; it shows what a reward did to the number of elements.

    Args:
        real: The real layouts.
        convention: See `domains.layouts.metrics.conventions`.
        **kwargs: Of `torchmetrics.Metric`.
    """

    def of(self, pages: LayoutBatch) -> Tensor:
        """Numbers of elements."""
        return pages.counts.double()

    def compute(self) -> Tensor:
        """The distance."""
        seen = self.seen
        value = wasserstein_distance(seen.numpy(), self.real.numpy()) if len(seen) and len(self.real) else 0.0
        return torch.tensor(float(value), dtype=torch.float64)
