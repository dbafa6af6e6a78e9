"""FID and coverage of layouts, in the features of any network."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from domains.layouts.metrics.conventions import Convention
from domains.layouts.metrics.conventions import find_convention as by_name
from domains.layouts.metrics.elements import Elements
from graft.domain.distance import coverage
from graft.domain.metrics import Collected
from graft.errors import GraftError

Features = Callable[[Sequence[Any]], Tensor]  # from n layouts to (n, d) features


def moments(features: Tensor) -> Tensor:
    """Return (d + 1, d) float64 mean and, below it, covariance of features (n, d).

    Published statistics have this form.
    """
    x = features.double()
    if len(x) < 2:
        raise GraftError(f"{len(x)} layouts have no covariance: 2 are needed")
    return torch.cat([x.mean(0, keepdim=True), torch.cov(x.T).reshape(x.shape[1], x.shape[1])])


def frechet_of_moments(a: Tensor, b: Tensor) -> float:
    """Return the Fréchet distance |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½) of two `moments`.

    The last trace is the sum of the singular values of Σ_a^½ Σ_b^½, which stays real for a singular covariance.
    """
    if a.shape != b.shape or a.ndim != 2 or len(a) != a.shape[1] + 1:
        raise GraftError(f"moments of {tuple(a.shape)} and {tuple(b.shape)} cannot be compared: (d + 1, d) each")
    a, b = a.double(), b.double()
    if not bool(a.isfinite().all() and b.isfinite().all()):
        raise GraftError("the mean or covariance of the features is not finite, so they have no distance")
    roots = [_root(x[1:]) for x in (a, b)]
    traces = a[1:].trace() + b[1:].trace() - 2 * torch.linalg.svdvals(roots[0] @ roots[1]).sum()
    return max(0.0, float((a[0] - b[0]).square().sum() + traces))


def _root(covariance: Tensor) -> Tensor:
    sizes, axes = torch.linalg.eigh((covariance + covariance.T) / 2)
    root: Tensor = axes * sizes.clamp(min=0).sqrt() @ axes.T
    return root


class _Likeness(Collected):
    """A comparison of the features of the layouts with those of real ones.

    Args:
        real: (n, d) features of the real layouts.
        network: Function from n layouts to (n, d) features.
        convention: Convention of `domains.layouts.metrics.conventions`, which leaves out larger layouts; ``real`` must
            already be without them.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    def __init__(self, real: Tensor, network: Features, convention: "str | Convention", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.real, self.network, self.convention = real, network, by_name(convention)

    @override
    def update(self, items: Sequence[Elements]) -> None:
        some = [item for item in items if len(item.labels) <= self.convention.max_elements]
        if some:
            self.collect(self.network(some).detach())

    @property
    def seen(self) -> Tensor:
        """(n, d) all features that were kept."""
        return self.collected(self.real[:0]).cpu()


class FID(_Likeness):
    """`frechet_of_moments` of the layouts and the real ones, in the features' unit squared.

    It is comparable only between sets of similar size, in features of one network; report it with a floor, the FID of
    two halves of the real layouts. ``real`` may be the published `moments` (d + 1, d) of such a network, with ``known``
    true.

    Args:
        real: (n, d) features of the real layouts, or their moments.
        network: Function from n layouts to (n, d) features.
        convention: Convention of `domains.layouts.metrics.conventions`, which leaves out larger layouts; ``real`` must
            already be without them.
        known: ``real`` holds moments.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(
        self, real: Tensor, network: Features, convention: "str | Convention", known: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(real, network, convention, **kwargs)
        self.moments = real if known else moments(real)

    @override
    def compute(self) -> Tensor:
        """Return the distance; NaN for fewer than two layouts."""
        seen = self.seen
        value = frechet_of_moments(moments(seen), self.moments) if len(seen) > 1 else float("nan")
        return torch.tensor(value, dtype=torch.float64)


class Coverage(_Likeness):
    """Share of the real layouts with a generated one among their ``k`` nearest.

    It is `graft.domain.distance.coverage`.

    Args:
        real: (n, d) features of the real layouts.
        network: Function from n layouts to (n, d) features.
        convention: Convention of `domains.layouts.metrics.conventions`, which leaves out larger layouts; ``real`` must
            already be without them.
        k: Number of neighbours (Naeem et al. 2020).
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    higher_is_better = True

    def __init__(
        self, real: Tensor, network: Features, convention: "str | Convention", k: int = 5, **kwargs: Any
    ) -> None:
        super().__init__(real, network, convention, **kwargs)
        self.k = k

    @override
    def compute(self) -> Tensor:
        """Return the share; 0 for an empty set."""
        seen = self.seen
        value = coverage(self.real, seen, self.k) if len(seen) else 0.0
        return torch.tensor(value, dtype=torch.float64)
