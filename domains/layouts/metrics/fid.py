"""FID and coverage of layouts, on the features of any network."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from domains.layouts.metrics.conventions import Convention
from domains.layouts.metrics.conventions import convention as by_name
from domains.layouts.metrics.elements import Elements
from graft.distance import coverage
from graft.errors import GraftError

Features = Callable[[Sequence[Any]], Tensor]  # n layouts in, (n, d) out


def moments(features: Tensor) -> Tensor:
    """(d + 1, d) float64 mean, and below it the covariance, of features (n, d): as published statistics are stored."""
    x = features.double()
    if len(x) < 2:
        raise GraftError(f"{len(x)} layouts have no covariance: 2 are needed")
    return torch.cat([x.mean(0, keepdim=True), torch.cov(x.T).reshape(x.shape[1], x.shape[1])])


def frechet_of_moments(a: Tensor, b: Tensor) -> float:
    """Fréchet distance |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of two `moments`.

    The last trace is the sum of the singular values of Σ_a^½ Σ_b^½, which stays real where a covariance is singular.
    """
    if a.shape != b.shape or a.ndim != 2 or len(a) != a.shape[1] + 1:
        raise GraftError(f"moments of {tuple(a.shape)} and {tuple(b.shape)} cannot be compared: (d + 1, d) each")
    a, b = a.double(), b.double()
    roots = [_root(x[1:]) for x in (a, b)]
    traces = a[1:].trace() + b[1:].trace() - 2 * torch.linalg.svdvals(roots[0] @ roots[1]).sum()
    return max(0.0, float((a[0] - b[0]).square().sum() + traces))


def _root(covariance: Tensor) -> Tensor:
    sizes, axes = torch.linalg.eigh((covariance + covariance.T) / 2)
    root: Tensor = axes * sizes.clamp(min=0).sqrt() @ axes.T
    return root


class _Likeness(Metric):
    """Features of the layouts seen, beside the real ones'.

    Args:
        real: (n, d) features of the real layouts.
        network: Of n layouts, (n, d) features.
        convention: See `domains.layouts.metrics.conventions`: larger layouts are left out; of ``real`` you do that.
        **kwargs: Of `torchmetrics.Metric`.
    """

    full_state_update = False
    features: "list[Tensor] | Tensor"

    def __init__(
        self, real: Tensor, network: Features, convention: "str | Convention" = "layoutformer", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.real, self.network, self.convention = real, network, by_name(convention)
        self.add_state("features", [], dist_reduce_fx="cat")

    def update(self, items: Sequence[Elements]) -> None:
        """Note the features of some layouts."""
        some = [item for item in items if len(item.labels) <= self.convention.max_elements]
        assert isinstance(self.features, list)
        if some:
            self.features.append(self.network(some).detach().to(self.device))

    @property
    def seen(self) -> Tensor:
        """(n, d) all that was noted."""
        return dim_zero_cat(self.features).cpu() if len(self.features) else self.real[:0]


class FID(_Likeness):
    """`frechet_of_moments` of the layouts seen and the real ones, in the features' unit squared.

    Comparable only between sets of like size, on features of one network; a floor, two halves of the real layouts,
    belongs beside it. ``real`` may be the published `moments` (d + 1, d) of such a network, with ``moments`` true.

    Args:
        real: (n, d) features of the real layouts, or their moments.
        network: Of n layouts, (n, d) features.
        convention: See `domains.layouts.metrics.conventions`: larger layouts are left out; of ``real`` you do that.
        known: ``real`` are moments.
        **kwargs: Of `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(
        self,
        real: Tensor,
        network: Features,
        convention: "str | Convention" = "layoutformer",
        known: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(real, network, convention, **kwargs)
        self.moments = real if known else moments(real)

    def compute(self) -> Tensor:
        """The distance; NaN of fewer than two layouts."""
        seen = self.seen
        value = frechet_of_moments(moments(seen), self.moments) if len(seen) > 1 else float("nan")
        return torch.tensor(value, dtype=torch.float64)


class Coverage(_Likeness):
    """`graft.distance.coverage`: the share of the real layouts that have a generated one among their ``k`` nearest.

    Args:
        real: (n, d) features of the real layouts.
        network: Of n layouts, (n, d) features.
        convention: See `domains.layouts.metrics.conventions`: larger layouts are left out; of ``real`` you do that.
        k: Neighbours (Naeem et al. 2020).
        **kwargs: Of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(
        self,
        real: Tensor,
        network: Features,
        convention: "str | Convention" = "layoutformer",
        k: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(real, network, convention, **kwargs)
        self.k = k

    def compute(self) -> Tensor:
        """The share; 0 of nothing."""
        seen = self.seen
        value = coverage(self.real, seen, self.k) if len(seen) else 0.0
        return torch.tensor(value, dtype=torch.float64)
