"""What a set of pictures is worth, as torchmetrics; distances to real pictures stand beside their floor.

A distance of finite samples is not 0 where the laws are one. So the real pictures are cut in two halves, and the same
number n of drawn and of real pictures is compared with the first: n is half the real pictures, or all drawn ones if
those are fewer. The floor has the second half in the place of the drawn ones. A distance below its floor is no triumph
but a sign of memorised pictures: look at ``nearest``.
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
from torchmetrics.utilities import dim_zero_cat

from domains.images.classifier import ClassifierFeatures
from domains.images.features import Features
from domains.images.pixels import pil_to_tensor, to_float
from graft import seeding
from graft.distance import coverage, internal_diversity

Distance = Callable[[Tensor, Tensor], float]  # of (n, d) real and (n, d) other samples


class _Given(nn.Module):
    """In the place of torchmetrics' feature network: it is handed features, so that one network serves all metrics."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.num_features = size

    def forward(self, features: Tensor) -> Tensor:
        return features


def fid(real: Tensor, other: Tensor) -> float:
    """Fréchet distance of features (Heusel et al. 2017), by torchmetrics."""
    metric = FrechetInceptionDistance(feature=_Given(real.shape[1]))
    return _distance(metric, real, other)


def kid(real: Tensor, other: Tensor) -> float:
    """Kernel distance of features (Bińkowski et al. 2018), by torchmetrics: all samples, or 10 subsets of 1,000."""
    n = min(len(real), len(other))
    subsets: dict[str, Any] = {"subsets": 1, "subset_size": n} if n <= 1000 else {"subsets": 10, "subset_size": 1000}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        torch.manual_seed(0)  # torchmetrics draws the subsets with torch's own generator
        warnings.filterwarnings("ignore", ".*will save all extracted features in buffer", UserWarning)
        return _distance(KernelInceptionDistance(feature=_Given(real.shape[1]), **subsets), real, other)


def nearest_real_distance(real: Tensor, other: Tensor) -> float:
    """The mean distance of another sample to the real one that is nearest, by root mean square over the dimensions."""
    apart = torch.cdist(other.double(), real.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return float(apart.min(1).values.mean()) / math.sqrt(real.shape[1])


class DistanceToReal(Metric):
    """A distance of drawn pictures to one half of the real ones, or its floor: that of the other half.

    Args:
        distance: Of (n, d) real samples and (n, d) others.
        real: (N, d) of the real pictures.
        numbers: (n, d) of drawn pictures.
        floor: Give the floor at the number of pictures that were drawn.
        least: Samples that it needs; NaN below.
        **kwargs: Of `torchmetrics.Metric`.
    """

    full_state_update = False
    watched = False  # a reward moves the law away from the training pictures: that is asked for
    real: Tensor
    found: "list[Tensor] | Tensor"

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
        order = torch.randperm(len(real), generator=seeding.make_generator(0, "halves"))  # everyone's halves
        self.register_buffer("real", real[order], persistent=False)
        self.add_state("found", [], dist_reduce_fx="cat")

    def update(self, images: "list[Any]") -> None:
        """Take some pictures."""
        assert isinstance(self.found, list)
        if images:
            self.found.append(self.numbers(images).to(self.device))

    def compute(self) -> Tensor:
        """The distance, or its floor."""
        drawn = dim_zero_cat(self.found) if len(self.found) else self.real[:0]
        half = len(self.real) // 2
        n = min(half, len(drawn))
        if n < self.least:
            return torch.tensor(torch.nan, device=self.device)
        other = self.real[half : half + n] if self.floor else drawn[:n]
        return torch.tensor(self.distance(self.real[:n], other), device=self.device)


class Smaller(DistanceToReal):
    """A distance whose smaller values are better."""

    higher_is_better = False


class Larger(DistanceToReal):
    """One whose larger values are better."""

    higher_is_better = True


class Diversity(Metric):
    """The mean distance of two different pictures, in the features' unit."""

    full_state_update = False
    higher_is_better = True
    watched = False  # it is, as ``internal_diversity``
    found: "list[Tensor] | Tensor"

    def __init__(self, features: Features, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features
        self.add_state("found", [], dist_reduce_fx="cat")

    def update(self, images: "list[Any]") -> None:
        """Take some pictures."""
        assert isinstance(self.found, list)
        if images:
            self.found.append(self.features(images).to(self.device))

    def compute(self) -> Tensor:
        """The mean over pairs of the first 2,000; NaN of less than two pictures."""
        found = dim_zero_cat(self.found)[:2000] if len(self.found) else torch.zeros(0, self.features.size)
        value = internal_diversity(found) if len(found) > 1 else torch.nan
        return torch.tensor(value, device=self.device)


class Classes(Metric):
    """Frequency of each class as the classifier sees it; it shows what a reward drew the set towards."""

    full_state_update = False
    counts: Tensor

    def __init__(self, classifier: ClassifierFeatures, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classifier = classifier
        self.add_state("counts", torch.zeros(classifier.classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, images: "list[Any]") -> None:
        """Count some pictures."""
        if images:
            seen = self.classifier.probabilities(images).argmax(1)
            self.counts += torch.bincount(seen, minlength=len(self.counts)).to(self.device)

    def compute(self) -> dict[str, Tensor]:
        """The share of each class by its name; all 0 of nothing."""
        shares = self.counts / self.counts.sum().clamp(min=1)
        return dict(zip(self.classifier.names, shares, strict=True))


class LabelAgreement(Metric):
    """Pictures in which the classifier sees the class they were drawn for / pictures with a label; NaN without any."""

    full_state_update = False
    higher_is_better = True
    right: Tensor
    all: Tensor

    def __init__(self, classifier: ClassifierFeatures, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.classifier = classifier
        self.add_state("right", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("all", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, images: "list[Any]") -> None:
        """Count some pictures."""
        labelled = [image for image in images if "label" in image.info]
        if labelled:
            asked = torch.tensor([image.info["label"] for image in labelled])
            self.right += (self.classifier.probabilities(labelled).argmax(1) == asked).sum().to(self.device)
            self.all += len(labelled)

    def compute(self) -> Tensor:
        """The share."""
        return self.right / self.all if self.all else torch.tensor(torch.nan, device=self.device)


def image_metrics(features: Features, real: "Tensor | None", labelled: bool = False) -> Mapping[str, Metric]:
    """Fresh metrics by name, as far as there is what they need.

    Args:
        features: In which pictures are compared.
        real: (N, C, H, W) uint8 real pictures; None where there are none, and no distances.
        labelled: Pictures carry the label that they were drawn for.
    """
    out: dict[str, Metric] = {}
    if real is not None and len(real) >= 4:
        found = features.of_real(real)
        flat = to_float(real).flatten(1)
        compared: dict[str, tuple[type[DistanceToReal], Distance, Tensor, Callable[[list[Any]], Tensor], int]] = {}
        if features.network:  # of raw pixels nobody would understand an FID
            compared = {"fid": (Smaller, fid, found, features, 2), "kid": (Smaller, kid, found, features, 2)}
        compared["coverage"] = (Larger, coverage, found, features, 6)
        compared["nearest"] = (DistanceToReal, nearest_real_distance, flat, _flat, 1)
        for name, (kind, distance, numbers, of, least) in compared.items():
            out[name] = kind(distance, numbers, of, least=least)
            out[f"{name}_floor"] = DistanceToReal(distance, numbers, of, floor=True, least=least)
    out["diversity"] = Diversity(features)
    if isinstance(features, ClassifierFeatures):
        if labelled:
            out["label_agreement"] = LabelAgreement(features)
        out["classes"] = Classes(features)
    return out


def _flat(images: "list[Any]") -> Tensor:
    """(n, C·H·W) pixels in [-1, 1]."""
    return to_float(pil_to_tensor(images)).flatten(1)


def _distance(metric: Any, real: Tensor, other: Tensor) -> float:
    metric.update(real, real=True)
    metric.update(other, real=False)
    value = metric.compute()
    return float(value[0] if isinstance(value, tuple) else value)
