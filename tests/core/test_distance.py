"""Distances with known answers: between Gaussians, of listed sets, of one distribution and itself."""

import math

import pytest
import torch
from exact import f64
from torchmetrics.image.kid import poly_mmd

from graft.domain.distance import (
    coverage,
    frechet,
    internal_diversity,
    mmd,
    paired_mmd,
    sliced_wasserstein,
)
from graft.errors import GraftError


def normal(n: int, d: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def whitened(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Return samples whose mean is 0 and whose covariance is 1 exactly."""
    x = normal(n, d, seed)
    return torch.linalg.qr(x - x.mean(0)).Q * (n - 1) ** 0.5


def test_frechet_of_gaussians() -> None:
    """|Δμ|² + Σ (s − t)² for covariances with one set of axes; and of any two, the root by eigenvalues."""
    x, s, t = whitened(50, 3), f64([1.0, 2.0, 0.5]), f64([3.0, 2.0, 0.0])
    assert frechet(x * s, x * t + f64([1.0, 0, 2])) == pytest.approx(5 + 4 + 0 + 0.25)
    assert frechet(x * s, whitened(80, 3, 1) * s) == pytest.approx(0, abs=1e-12)
    a, b = normal(60, 4) @ normal(4, 4, 1), normal(90, 4, 2) @ normal(4, 4, 3) + 1
    roots = torch.linalg.eigvals(torch.cov(a.T) @ torch.cov(b.T)).real.sqrt().sum()
    closed = (a.mean(0) - b.mean(0)).square().sum() + torch.cov(a.T).trace() + torch.cov(b.T).trace() - 2 * roots
    assert frechet(a, b) == pytest.approx(float(closed)) == pytest.approx(frechet(b, a))


def test_frechet_of_fewer_samples_than_dimensions() -> None:
    """Unused dimensions lose nothing, and equal sets have distance 0 up to rounding."""
    rotation = torch.linalg.qr(normal(300, 300, 1)).Q[:3]
    x = whitened(10, 3)
    assert frechet(x @ rotation, (2 * x + 1) @ rotation) == pytest.approx(3 + 3, rel=1e-9)
    y = normal(20, 300, 2)
    assert frechet(y, y) < 1e-9
    assert frechet(y, y + 0.1) == pytest.approx(300 * 0.01, rel=1e-6)
    assert frechet(y.float(), y.float()) < 1e-9  # counted in doubles


def test_frechet_floor() -> None:
    """The distance of two sets of one distribution falls as 1/n; that of another distribution is far above."""
    means = []
    for n in (50, 800):
        found = f64([frechet(normal(n, 4, 2 * i), normal(n, 4, 2 * i + 1)) for i in range(40)])
        means.append(float(found.mean()))
    assert means[0] / means[1] == pytest.approx(16, rel=0.25)
    moved = frechet(normal(1600, 4), normal(1600, 4, 1) + 1)
    assert moved == pytest.approx(4, rel=0.1) and moved > 100 * means[1]


def test_mmd_by_hand() -> None:
    """One dimension, two samples each: the kernel's six values."""
    a, b = f64([[0.0], [1.0]]), f64([[1.0], [2.0]])

    def k(x: float, y: float) -> float:
        return (x * y + 1) ** 3

    within = k(0, 1) + k(1, 2)
    assert mmd(a, b) == pytest.approx(within - 2 * (k(0, 1) + k(0, 2) + k(1, 1) + k(1, 2)) / 4)
    assert paired_mmd(a, b) == pytest.approx(within - (k(0, 2) + k(1, 1)))  # without (0, 1) and (1, 2), the pairs
    assert paired_mmd(a, a) == 0


def test_mmd_is_torchmetrics_s() -> None:
    a, b = normal(30, 6), normal(30, 6, 1) + 0.5
    theirs = poly_mmd(a, b, degree=3, gamma=None, coef=1.0)
    assert mmd(a, b) == pytest.approx(float(theirs))


def test_mmd_is_unbiased() -> None:
    """The mean is 0 for one distribution and the closed form for two, also for pairs of one noise if they are named.

    In one dimension E (x y + 1)³ = 1 + 3 m n + 3 (1 + m²)(1 + n²) + (m³ + 3 m)(n³ + 3 n) for x ~ N(m, 1), y ~ N(n, 1).
    """

    def k(m: float, n: float) -> float:
        return 1 + 3 * m * n + 3 * (1 + m**2) * (1 + n**2) + (m**3 + 3 * m) * (n**3 + 3 * n)

    repeats, size = 3000, 8
    found = torch.zeros(4, repeats, dtype=torch.float64)
    for i in range(repeats):
        x, y = normal(size, 1, 2 * i), normal(size, 1, 2 * i + 1)
        found[:, i] = f64([mmd(x, y), mmd(x, y + 1), paired_mmd(x, -x), mmd(x, -x)])
    # a pair's own E (1 − x²)³ = 1 − 3 + 9 − 15 in n of the n² terms of the mean of k(x, y)
    expected = f64([0, k(1, 1) + k(0, 0) - 2 * k(1, 0), 0, -2 * (-8 - k(0, 0)) / size])
    assert expected.tolist() == [0, 22, 0, 3]
    assert ((found.mean(1) - expected).abs() < 4 * found.std(1) / repeats**0.5).all()
    assert found.mean(1)[3] > 8 * found[3].std() / repeats**0.5  # so the test can tell


@pytest.mark.parametrize(("n", "m", "k"), [(40, 40, 3), (60, 20, 5), (30, 90, 1)])
def test_coverage_of_one_distribution(n: int, m: int, k: int) -> None:
    """1 − Π (n − i) / (n + m − i): the k nearest of all others are the real sample's own (Naeem et al. 2020)."""
    closed = 1 - math.prod((n - i) / (n + m - i) for i in range(1, k + 1))
    found = f64([coverage(normal(n, 3, 2 * i), normal(m, 3, 2 * i + 1), k) for i in range(300)])
    assert abs(float(found.mean()) - closed) < 4 * float(found.std()) / 300**0.5


def test_coverage_of_modes() -> None:
    """A tuned model with two of four distant modes covers half, however good its samples of them are."""
    modes = 100 * f64([[0, 0], [0, 1], [1, 0], [1, 1]])
    real = (modes[:, None] + normal(400, 2).reshape(4, 100, 2)).reshape(-1, 2)
    tuned = (modes[:2, None] + normal(400, 2, 1).reshape(2, 200, 2)).reshape(-1, 2)
    assert coverage(real, tuned) == pytest.approx(0.5, abs=0.02)
    assert coverage(real, real[:1].repeat(400, 1)) <= 0.05
    assert coverage(torch.zeros(9, 2), torch.zeros(9, 2)) == 1  # all alike: at distance 0, which is within 0


def test_internal_diversity() -> None:
    """Corners of a square have four sides and two diagonals; N(0, 1) has 2 / √π."""
    corners = f64([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert internal_diversity(corners) == pytest.approx((4 + 2 * math.sqrt(2)) / 6)
    assert internal_diversity(normal(3000, 1)) == pytest.approx(2 / math.pi**0.5, rel=0.03)
    assert internal_diversity(torch.ones(5, 3)) == 0


def test_what_cannot_be_compared() -> None:
    for wrong in (
        lambda: frechet(normal(5, 2), normal(5, 3)),
        lambda: frechet(normal(1, 2), normal(5, 2)),
        lambda: mmd(normal(5, 2), normal(1, 2)),
        lambda: paired_mmd(normal(5, 2), normal(4, 2)),
        lambda: coverage(normal(5, 2), normal(5, 2), k=5),
        lambda: internal_diversity(normal(1, 2)),
    ):
        with pytest.raises(GraftError, match=r"cannot be compared|too few|pairs"):
            wrong()


def test_sliced_wasserstein() -> None:
    """In one dimension it is the distance of sorted samples; a shift by v has |v| / sqrt(d) on average."""
    a, b = normal(50, 1), normal(50, 1, 1)
    expected = float((a.sort(0).values - b.sort(0).values).square().mean().sqrt())
    assert sliced_wasserstein(a, b) == pytest.approx(expected)
    assert sliced_wasserstein(a, a.flip(0)) == 0 == sliced_wasserstein(a, a.repeat(2, 1))
    x, v = normal(40, 3), f64([3.0, -4.0, 12.0])
    assert sliced_wasserstein(x, x + v) == pytest.approx(13 / 3**0.5, rel=0.2)  # 128 directions
    assert sliced_wasserstein(x, 3 * (x + v)) == pytest.approx(sliced_wasserstein(x / 3, x + v) * 3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    a, b = torch.randn(8, 3), torch.randn(8, 3)
    a[2, 1] = value
    for measure in (frechet, mmd, sliced_wasserstein):
        with pytest.raises(GraftError, match="features of 1 of 16 samples are not finite"):
            measure(b, a)
