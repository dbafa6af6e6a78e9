"""Metrics of a set of pictures, as torchmetrics.

Distances to real pictures come with their floor.

The distance of two finite sets is not 0 even if their distributions are equal. So the real pictures are split in two
halves, and n sampled pictures are compared with n real ones of the first half; n is half the number of real pictures,
or all sampled ones if those are fewer. The floor is the distance of the second half. A distance below its floor is a
sign of memorised pictures, which ``nearest`` shows.
"""

import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance
from typing_extensions import override

from domains.images.appearance import appearance_metrics
from domains.images.classifier import ClassifierFeatures
from domains.images.features import Features
from domains.images.pixels import pil_to_tensor, to_float
from graft.core import seeding
from graft.domain.distance import coverage, internal_diversity
from graft.domain.metrics import Collected, Frequencies, Share

Distance = Callable[[Tensor, Tensor], float]  # from (n, d) real and (n, d) other samples


class _Given(nn.Module):
    """An identity in place of torchmetrics' feature network.

    One feature network serves all metrics.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    @override
    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(real: Tensor, other: Tensor) -> float:
    """Return the Fréchet distance of features (Heusel et al. 2017), by torchmetrics."""
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1]))
    return _distance(metric, real, other)


def kid(real: Tensor, other: Tensor) -> float:
    """Return the kernel distance of features (Bińkowski et al. 2018), by torchmetrics.

    It uses all samples, or 10 subsets of 1,000.
    """
    n = min(len(real), len(other))
    subsets: dict[str, Any] = {"subsets": 1, "subset_size": n} if n <= 1000 else {"subsets": 10, "subset_size": 1000}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(0)  # torchmetrics draws the subsets from torch's own generator
        warnings.filterwarnings("ignore", ".*will save all extracted features in buffer", UserWarning)
        return _distance(KernelInceptionDistance(feature=_Given(real.shape[1]), **subsets), real, other)


def nearest_real_distance(real: Tensor, other: Tensor) -> float:
    """Return the mean distance of another sample to the nearest real one.

    It is the root mean square over the dimensions.
    """
    apart = torch.cdist(other.double(), real.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return float(apart.min(1).values.mean()) / math.sqrt(real.shape[1])


class DistanceToReal(Collected):
    """Distance of sampled pictures to one half of the real ones, or its floor.

    The floor is the distance of the other half.

    Args:
        distance: Function of (n, d) real samples and (n, d) others.
        real: (N, d) features of the real pictures.
        numbers: Function from pictures to (n, d) features.
        floor: Compute the floor at the number of sampled pictures.
        least: Smallest number of samples; NaN below it.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    monitored = False  # a reward is meant to move the samples away from the training pictures
    real: Tensor

    def __init__(
        self,
        distance: Distance,
        real: Tensor,
        numbers: Callable[[list[Any]], Tensor],
        floor: bool = False,
        least: int = 2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.distance, self.numbers, self.floor, self.least = distance, numbers, floor, least
        order = torch.randperm(len(real), generator=seeding.make_generator(0, "halves"))  # the same halves on all ranks
        self.register_buffer("real", real[order], persistent=False)

    @override
    def update(self, images: "list[Any]") -> None:
        if images:
            self.collect(self.numbers(images))

    @override
    def compute(self) -> Tensor:
        drawn = self.collected(self.real[:0])
        half = len(self.real) // 2
        n = min(half, len(drawn))
        if n < self.least:
            return torch.tensor(torch.nan, device=self.device)
        other = self.real[half : half + n] if self.floor else drawn[:n]
        return torch.tensor(self.distance(self.real[:n], other), device=self.device)


class Smaller(DistanceToReal):
    """A distance with smaller values being better."""

    higher_is_better = False


class Larger(DistanceToReal):
    """A coverage with larger values being better."""

    higher_is_better = True


class Diversity(Collected):
    """Mean distance of two different pictures, in the features' unit."""

    higher_is_better = True
    monitored = False  # ``internal_diversity`` is monitored in its place

    def __init__(self, features: Features, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features

    @override
    def update(self, images: "list[Any]") -> None:
        if images:
            self.collect(self.features(images))

    @override
    def compute(self) -> Tensor:
        """Return the mean over pairs of the first 2,000; NaN for less than two pictures."""
        found = self.collected(torch.zeros(0, self.features.size))[:2000]
        value = internal_diversity(found) if len(found) > 1 else torch.nan
        return torch.tensor(value, device=self.device)


class Classes(Frequencies):
    """Frequency of each predicted class; it shows which classes a reward favours."""

    def __init__(self, classifier: ClassifierFeatures, **kwargs: Any) -> None:
        super().__init__(classifier.names, **kwargs)
        self.classifier = classifier

    @override
    def update(self, images: "list[Any]") -> None:
        if images:
            self.count(self.classifier.probabilities(images).argmax(1))


class LabelAgreement(Share):
    """Pictures with predicted class = label / pictures with a label; NaN without labels."""

    def __init__(self, classifier: ClassifierFeatures, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classifier = classifier

    @override
    def update(self, images: "list[Any]") -> None:
        labelled = [image for image in images if "label" in image.info]
        if labelled:
            labels = torch.tensor([image.info["label"] for image in labelled])
            self.some += (self.classifier.probabilities(labelled).argmax(1) == labels).sum().to(self.device)
            self.all += len(labelled)

    @override
    def compute(self) -> Tensor:
        return super().compute() if self.all else torch.tensor(torch.nan, device=self.device)


def image_metrics(
    features: Features, real: "Tensor | None", labelled: bool = False, coloured: bool = True
) -> Mapping[str, Metric]:
    """Return fresh metrics by name, as far as their inputs are there.

    Args:
        features: Features in which pictures are compared.
        real: (N, C, H, W) uint8 real pictures; None for no distances.
        labelled: Pictures carry the label that they were sampled for.
        coloured: Pictures have colours.
    """
    out: dict[str, Metric] = {}
    if real is not None and len(real) >= 4:
        found = features.of_real(real)
        flat = to_float(real).flatten(1)
        compared: dict[str, tuple[type[DistanceToReal], Distance, Tensor, Callable[[list[Any]], Tensor], int]] = {}
        if features.network:  # a Fréchet distance of raw pixels is not called FID
            compared = {"fid": (Smaller, fid, found, features, 2), "kid": (Smaller, kid, found, features, 2)}
        compared["coverage"] = (Larger, coverage, found, features, 6)
        compared["nearest"] = (DistanceToReal, nearest_real_distance, flat, _flat, 1)
        for name, (kind, distance, numbers, of, least) in compared.items():
            out[name] = kind(distance, numbers, of, least=least)
            out[f"{name}_floor"] = DistanceToReal(distance, numbers, of, floor=True, least=least)
    out["diversity"] = Diversity(features)
    out |= appearance_metrics(coloured)
    if isinstance(features, ClassifierFeatures):
        if labelled:
            out["label_agreement"] = LabelAgreement(features)
        out["classes"] = Classes(features)
    return {**out, **features.metrics()}


def _flat(images: "list[Any]") -> Tensor:
    """Return (n, C·H·W) pixels in [-1, 1]."""
    return to_float(pil_to_tensor(images)).flatten(1)


def _distance(metric: Any, real: Tensor, other: Tensor) -> float:
    metric.update(real, real=True)
    metric.update(other, real=False)
    value = metric.compute()
    return float(value[0] if isinstance(value, tuple) else value)
