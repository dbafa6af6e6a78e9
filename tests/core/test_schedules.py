"""Noise schedules: data at t = 0, less signal with time, and the tables that diffusers' networks were trained with."""

import warnings

import pytest
import torch
from exact import f64

from graft.process import Betas, Cosine, Flow, Gaussian, Polynomial, Schedule, VarianceExploding

SCHEDULES: dict[str, Schedule] = {
    "flow": Flow(),
    "cosine": Cosine(),
    "polynomial": Polynomial(),
    "polynomial3": Polynomial(power=3.0, offset=1e-4),
    "exploding": VarianceExploding(),
    "linear": Betas("linear"),
    "scaled": Betas("scaled_linear", start=0.00085, end=0.012),
    "squaredcos": Betas("squaredcos_cap_v2"),
}
PRESERVING = ("cosine", "polynomial", "polynomial3", "linear", "scaled", "squaredcos")


@pytest.mark.parametrize("name", SCHEDULES)
def test_data_at_zero(name: str) -> None:
    alpha, sigma = SCHEDULES[name].alpha_sigma(f64([0.0, 1.0]))
    assert alpha.dtype == sigma.dtype == torch.float64
    assert float(alpha[0]) == 1.0 and float(sigma[0]) == 0.0


@pytest.mark.parametrize("warp", [1.0, 2.0])
@pytest.mark.parametrize("name", SCHEDULES)
def test_signal_falls(name: str, warp: float) -> None:
    """log SNR falls everywhere, the warp is t = u^warp, and shapes are kept."""
    process = Gaussian(SCHEDULES[name], "x0", (1,), warp=warp)
    u = torch.linspace(0, 1, 1501, dtype=torch.float64)
    log_snr = process.log_snr(u)
    assert (log_snr.diff() < 0).all()
    assert log_snr[0] == torch.inf and log_snr[1:-1].isfinite().all()
    assert torch.equal(process.time(u), u**warp)
    alpha, sigma = SCHEDULES[name].alpha_sigma(u**warp)
    assert torch.allclose(log_snr, (alpha**2 / sigma**2).log())
    assert process.log_snr(0.5).shape == ()
    assert (alpha >= 0).all() and (sigma >= 0).all()


@pytest.mark.parametrize("name", PRESERVING)
def test_variance_is_preserved(name: str) -> None:
    alpha, sigma = SCHEDULES[name].alpha_sigma(torch.linspace(0, 1, 777, dtype=torch.float64))
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(alpha), rtol=0, atol=1e-14)


def test_closed_forms() -> None:
    t = f64([0.25, 0.5, 1.0])
    for name, alpha, sigma in (
        ("flow", [0.75, 0.5, 0.0], [0.25, 0.5, 1.0]),
        ("cosine", [0.9238795325112867, 0.7071067811865476, 0.0], [0.3826834323650898, 0.7071067811865476, 1.0]),
        ("exploding", [1.0, 1.0, 1.0], [80 * 0.25**7, 80 * 0.5**7, 80.0]),
    ):
        found = SCHEDULES[name].alpha_sigma(t)
        assert torch.allclose(found[0], f64(alpha), atol=1e-15) and torch.allclose(found[1], f64(sigma))
    alpha2 = Polynomial(2.0, 1e-5).alpha_sigma(t)[0] ** 2  # EDM's, to the offset: (1 − t²)²
    assert torch.allclose(alpha2, (1 - t**2) ** 2, atol=1e-5)
    assert float(alpha2[-1]) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [("linear", 1e-4, 0.02), ("scaled_linear", 0.00085, 0.012), ("squaredcos_cap_v2", 1e-4, 0.02)],
)
def test_tables_are_those_of_diffusers(kind: str, start: float, end: float) -> None:
    """Entry k − 1 of diffusers' alphas_cumprod is alpha² at t = k / 1000, and the network is told k − 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what diffusers imports warns
        diffusers = pytest.importorskip("diffusers")
        theirs = diffusers.DDPMScheduler(1000, beta_start=start, beta_end=end, beta_schedule=kind).alphas_cumprod
    schedule = Betas(kind, 1000, start, end)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, sigma = schedule.alpha_sigma(t)
    assert torch.allclose((alpha**2).log(), theirs.double().log(), rtol=2e-4, atol=1e-6)  # theirs is float32
    assert torch.allclose(sigma**2, 1 - theirs.double(), rtol=2e-3)
    assert torch.allclose(schedule.network_time(t), torch.arange(1000, dtype=torch.float64))


def test_table_between_its_entries() -> None:
    """Interpolated geometrically in alpha²."""
    ends = Betas().alpha_sigma(f64([0.4, 0.401]))[0]
    middle = Betas().alpha_sigma(f64(0.4005))[0]
    assert float(middle) == pytest.approx(float(ends.prod().sqrt()), rel=1e-12)


def test_unknown_table() -> None:
    with pytest.raises(ValueError, match="scaled_linear"):
        Betas("sigmoid")
