"""Bases of domain metrics: shares, frequencies by name, and collected values."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from typing_extensions import override


class Share(Metric):
    """Share of objects, or of their parts, that have a property.

    `update` adds to ``some`` and to ``all``.
    """

    full_state_update = False
    higher_is_better = True
    some: Tensor
    all: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("some", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("all", torch.tensor(0), dist_reduce_fx="sum")

    @override
    def compute(self) -> Tensor:
        """Return some / all; 0 of an empty set."""
        return self.some / self.all.clamp(min=1)


class Frequencies(Metric):
    """Frequency of each of several types; it shows which types a reward favours.

    Args:
        names: Names of the types.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names = names
        self.add_state("counts", torch.zeros(len(names), dtype=torch.long), dist_reduce_fx="sum")

    def count(self, types: Tensor) -> None:
        """Count (n,) int64 types."""
        self.counts += torch.bincount(types, minlength=len(self.counts)).to(self.device)

    @override
    def compute(self) -> dict[str, Tensor]:
        """Return the share of each type by its name; all 0 of an empty set."""
        shares = self.counts / self.counts.sum().clamp(min=1)
        return dict(zip(self.names, shares, strict=True))


class Collected(Metric):
    """A metric that keeps a tensor for each batch; `collected` joins the tensors of all ranks."""

    full_state_update = False
    values: "list[Tensor] | Tensor"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("values", [], dist_reduce_fx="cat")

    def collect(self, values: Tensor) -> None:
        """Keep (n, ...) values."""
        assert isinstance(self.values, list)
        self.values.append(values.to(self.device))

    def collected(self, empty: Tensor) -> Tensor:
        """Return all values; ``empty`` if there are none."""
        return dim_zero_cat(self.values) if len(self.values) else empty
