"""Noise schedules: data at t = 0, less signal with time, and the tables that diffusers' networks were trained with."""

import warnings
from collections.abc import Callable

import pytest
import torch
from exact import f64

from graft import GraftError
from graft.process import (
    BetaSchedule,
    CosineSchedule,
    Gaussian,
    LinearSchedule,
    PolynomialSchedule,
    Schedule,
    VarianceExploding,
)

SCHEDULES: dict[str, Schedule] = {
    "flow": LinearSchedule(),
    "cosine": CosineSchedule(),
    "polynomial": PolynomialSchedule(),
    "polynomial3": PolynomialSchedule(power=3.0, offset=1e-4),
    "exploding": VarianceExploding(),
    "linear": BetaSchedule("linear"),
    "scaled": BetaSchedule("scaled_linear", beta_start=0.00085, beta_end=0.012),
    "squaredcos": BetaSchedule("squaredcos_cap_v2"),
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


def karras(t: float, least: float = 0.002, most: float = 80.0, rho: float = 7.0) -> float:
    """Karras et al. 2022, eq. 5, with i / (N − 1) = 1 − t."""
    ends = most ** (1 / rho), least ** (1 / rho)
    return float((ends[0] + (1 - t) * (ends[1] - ends[0])) ** rho)


def test_exploding_is_karras_schedule() -> None:
    """From sigma_min just above data to sigma_max, uniform in sigma^(1/7); the last step goes to data."""
    t = torch.cat([f64([1e-12, 1e-9]), torch.linspace(0.001, 1, 1000, dtype=torch.float64)])
    for settings in ({}, {"sigma_min": 0.01, "sigma_max": 20.0, "rho": 3.0}):
        schedule = VarianceExploding(**settings)
        sigma = schedule.alpha_sigma(t)[1]
        names = {"sigma_min": "least", "sigma_max": "most", "rho": "rho"}
        wanted = [karras(v, **{names[k]: x for k, x in settings.items()}) for v in t.tolist()]
        assert torch.allclose(sigma, f64(wanted), rtol=1e-12, atol=0)
        assert float(sigma[0]) == pytest.approx(settings.get("sigma_min", 0.002), rel=1e-9)
        assert float(sigma[-1]) == settings.get("sigma_max", 80.0)
    # the grid of N levels of Karras et al. without its least one is that of a sampler of N − 1 steps
    grid = VarianceExploding().alpha_sigma(torch.arange(17, -1, -1).double() / 17)[1]
    theirs = [karras(1 - i / 17) for i in range(17)]
    assert torch.allclose(grid[:-1], f64(theirs), rtol=1e-12) and float(grid[-1]) == 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: VarianceExploding(sigma_min=0.0), r"`sigma_min` is 0; it must lie between 0 and `sigma_max`, 80\."),
        (lambda: VarianceExploding(sigma_min=90.0), r"`sigma_min` is 90; it must lie between 0 and `sigma_max`, 80\."),
        (lambda: VarianceExploding(sigma_max=float("inf")), "`sigma_max` is inf; it must be positive"),
        (lambda: VarianceExploding(rho=0.0), "`rho` is 0; it must be positive"),
        (lambda: PolynomialSchedule(power=-1.0), "`power` is -1; it must be positive"),
        (lambda: PolynomialSchedule(offset=1.0), r"`offset` is 1; it must lie in \[0, 1\)"),
        (lambda: BetaSchedule(num_train_timesteps=0), "`num_train_timesteps` is 0; it must be at least 1"),
        (lambda: BetaSchedule(beta_start=0.0), "`beta_start` is 0; it must be above 0"),
        (
            lambda: BetaSchedule(beta_start=0.5, beta_end=0.02),
            "`beta_start` is 0.5; it must be above 0 and at most `beta_end`, 0.02",
        ),
        (lambda: BetaSchedule(beta_end=1.0), "which must be below 1"),
        (lambda: BetaSchedule(beta_start=float("nan")), "`beta_start` is nan"),
    ],
)
def test_bad_settings(make: Callable[[], Schedule], words: str) -> None:
    with pytest.raises(GraftError, match=words):
        make()


def test_closed_forms() -> None:
    t = f64([0.25, 0.5, 1.0])
    for name, alpha, sigma in (
        ("flow", [0.75, 0.5, 0.0], [0.25, 0.5, 1.0]),
        ("cosine", [0.9238795325112867, 0.7071067811865476, 0.0], [0.3826834323650898, 0.7071067811865476, 1.0]),
        ("exploding", [1.0, 1.0, 1.0], [karras(0.25), karras(0.5), 80.0]),
    ):
        found = SCHEDULES[name].alpha_sigma(t)
        assert torch.allclose(found[0], f64(alpha), atol=1e-15) and torch.allclose(found[1], f64(sigma))
    alpha2 = PolynomialSchedule(2.0, 1e-5).alpha_sigma(t)[0] ** 2  # EDM's, to the offset: (1 − t²)²
    assert torch.allclose(alpha2, (1 - t**2) ** 2, atol=1e-5)
    assert float(alpha2[-1]) == pytest.approx(1e-5)


@pytest.mark.parametrize(
    ("kind", "start", "end"),
    [("linear", 1e-4, 0.02), ("scaled_linear", 0.00085, 0.012), ("squaredcos_cap_v2", 1e-4, 0.02)],
)
def test_tables_are_those_of_diffusers(kind: str, start: float, end: float) -> None:
    """Entry k − 1 of diffusers' alphas_cumprod is alpha² at t = k / 1000, and the network receives k − 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what diffusers imports warns
        diffusers = pytest.importorskip("diffusers")
        theirs = diffusers.DDPMScheduler(1000, beta_start=start, beta_end=end, beta_schedule=kind).alphas_cumprod
    schedule = BetaSchedule(kind, 1000, start, end)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    alpha, sigma = schedule.alpha_sigma(t)
    assert torch.allclose((alpha**2).log(), theirs.double().log(), rtol=2e-4, atol=1e-6)  # theirs is float32
    assert torch.allclose(sigma**2, 1 - theirs.double(), rtol=2e-3)
    assert torch.allclose(schedule.network_time(t), torch.arange(1000, dtype=torch.float64))


def test_table_between_its_entries() -> None:
    """Interpolated geometrically in alpha²."""
    ends = BetaSchedule().alpha_sigma(f64([0.4, 0.401]))[0]
    middle = BetaSchedule().alpha_sigma(f64(0.4005))[0]
    assert float(middle) == pytest.approx(float(ends.prod().sqrt()), rel=1e-12)


def test_unknown_table() -> None:
    with pytest.raises(GraftError, match="scaled_linear"):
        BetaSchedule("sigmoid")
