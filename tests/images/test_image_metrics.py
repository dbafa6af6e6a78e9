"""Metrics against closed forms, torchmetrics and each other."""

import copy
import math

import pytest
import torch
from PIL import Image
from torch import Tensor

from domains.images import metrics
from domains.images.classifier import ClassifierFeatures
from domains.images.dataset import digits
from domains.images.features import Features, Pixels
from domains.images.pixels import to_pil
from graft.domain.distance import frechet, mmd
from graft.evaluation.alarms import SampleSet, statistics

G = torch.Generator().manual_seed(0)
REAL = torch.from_numpy(digits.read_digits().pixels[:400]).movedim(-1, 1).contiguous()


class Means(Features):
    """A stand-in for a network: the means of the two halves of a picture."""

    size = 2

    def of(self, pixels: Tensor) -> Tensor:
        return pixels.unflatten(2, (2, -1)).flatten(3).mean(3).flatten(1)


def test_fid_is_the_closed_form() -> None:
    """For Gaussians with means m and commuting covariances a and b: |m|² + Σ (√a − √b)²; 1 % at n = 200,000."""
    a, b = torch.tensor([1.0, 4.0]), torch.tensor([9.0, 0.25])
    x, y = torch.randn(200_000, 2, generator=G) * a.sqrt(), torch.randn(200_000, 2, generator=G) * b.sqrt() + 3
    assert metrics.fid(x, y) == pytest.approx(18 + float((a.sqrt() - b.sqrt()).square().sum()), rel=1e-2)


def test_they_are_the_cores_distances() -> None:
    x, y = torch.randn(300, 5, generator=G), torch.randn(300, 5, generator=G) + 0.3
    before = torch.get_rng_state()
    assert metrics.fid(x, y) == pytest.approx(frechet(x, y), rel=1e-3)
    assert metrics.kid(x, y) == pytest.approx(mmd(x, y), rel=1e-3)
    assert torch.equal(torch.get_rng_state(), before)
    many = torch.randn(1500, 5, generator=G), torch.randn(1500, 5, generator=G) + 0.3
    assert metrics.kid(*many) == metrics.kid(*many) == pytest.approx(mmd(*many), rel=0.2)  # of 10 subsets


def test_nearest_sees_copies() -> None:
    real = torch.randn(50, 4, generator=G)
    assert metrics.nearest_real_distance(real, real[:7]) == 0
    assert metrics.nearest_real_distance(torch.zeros(2, 4), torch.ones(3, 4)) == 1


def test_distance_and_its_floor() -> None:
    """Real pictures as samples are at the floor, noise is far, and copies are too near."""
    features = Means()
    halves = metrics.DistanceToReal(metrics.fid, torch.arange(400.0)[:, None], features).real.flatten().long()
    other, first = to_pil(REAL[halves[200:]]), to_pil(REAL[halves[:200]])
    noise = to_pil(torch.randint(0, 256, (200, 1, 8, 8), generator=G, dtype=torch.uint8))

    def of(images: list) -> dict[str, float]:
        found = metrics.image_metrics(features, REAL)
        for metric in found.values():
            metric.update(images)
        return {name: float(metric.compute()) for name, metric in found.items()}

    same, far, copied = of(other), of(noise), of(first)
    for name in ("fid", "kid", "coverage", "nearest"):
        assert same[name] == pytest.approx(same[f"{name}_floor"], rel=1e-5), name
        assert far[f"{name}_floor"] == same[f"{name}_floor"]
    assert far["fid"] > 10 * far["fid_floor"] and far["kid"] > 0.001 and far["coverage"] < 0.7
    assert far["nearest"] > 1.5 * far["nearest_floor"]
    assert copied["fid"] < 1e-6 and copied["nearest"] == 0 and copied["coverage"] == 1
    few = of(other[:20])
    assert few["fid_floor"] != same["fid_floor"]  # at 20 of each


def test_alarms_leave_the_distances_to_training_pictures_alone() -> None:
    images = to_pil(REAL[:40], [{"label": 0}] * 40)
    features = ClassifierFeatures()
    drawn = SampleSet(images, features(images))
    found = statistics(drawn, drawn, lambda: metrics.image_metrics(features, REAL, True))
    appearance = {"colour_entropy", "saturation", "edge_density", "distinct"}
    assert set(found) == {"label_agreement", "internal_diversity", "feature_distance", *appearance}


def test_parts_are_put_together() -> None:
    """Parts are merged as processes merge them."""
    images = to_pil(REAL[:120])
    whole = metrics.image_metrics(ClassifierFeatures(), REAL, True)
    first, second = (metrics.image_metrics(ClassifierFeatures(), REAL, True) for _ in range(2))
    for name, metric in whole.items():
        metric.update(images)
        first[name].update(images[:50])
        second[name].update(images[50:])
        merged = copy.deepcopy(first[name])
        merged.merge_state(second[name])
        a, b = metric.compute(), merged.compute()
        if isinstance(a, dict):
            assert a == b
        else:
            assert float(a) == pytest.approx(float(b), rel=1e-4, nan_ok=True), name


def test_nothing_and_too_little() -> None:
    found = metrics.image_metrics(ClassifierFeatures(), REAL, True)
    for metric in found.values():
        metric.update([])
    assert math.isnan(found["fid"].compute()) and math.isnan(found["diversity"].compute())
    assert math.isnan(found["label_agreement"].compute())
    appearance = {"colour_entropy", "saturation", "edge_density", "distinct"}
    assert set(metrics.image_metrics(Pixels(), None)) == {"diversity", *appearance}
    grey = metrics.image_metrics(Pixels(), None, coloured=False)
    assert set(grey) == {"diversity", *appearance} - {"saturation"}
    assert set(metrics.image_metrics(Pixels(), REAL)) == {
        "coverage",
        "coverage_floor",
        "nearest",
        "nearest_floor",
        "diversity",
        *appearance,
    }


def test_what_the_classifier_sees() -> None:
    found = digits.read_digits()
    labels = [int(label) for label in found.labels[:100]]
    wrong = [{"label": (label + (i < 25)) % 10} for i, label in enumerate(labels)]
    images = to_pil(torch.from_numpy(found.pixels[:100]).movedim(-1, 1), wrong)
    out = metrics.image_metrics(ClassifierFeatures(), None, True)
    for metric in out.values():
        metric.update(images)
    assert float(out["label_agreement"].compute()) == 0.75
    shares = out["classes"].compute()
    assert [round(100 * float(share)) for share in shares.values()] == torch.tensor(labels).bincount().tolist()


def test_features_are_not_computed_twice() -> None:
    class Counted(Means):
        calls = 0

        def of(self, pixels: Tensor) -> Tensor:
            self.calls += 1
            return super().of(pixels)

    features, images = Counted(), to_pil(REAL[:8])
    first = features(images)
    assert torch.equal(features(list(images)), first) and features.calls == 1
    assert not torch.equal(features([Image.new("L", (8, 8))] * 8), first) and features.calls == 2
