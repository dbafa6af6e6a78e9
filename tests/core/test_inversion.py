"""Inversion and sampling undo each other, step by step and over the whole clock; other steps are refused."""

import pytest
import torch
from exact import Exact, Mixture, f64, rows
from torch import Tensor

from graft.core.interval import Interval
from graft.core.state import Condition, State
from graft.errors import GraftError, InversionError
from graft.process import (
    BetaSchedule,
    CosineSchedule,
    Gaussian,
    LinearSchedule,
    MaskProjection,
    MultiFieldProcess,
    PolynomialSchedule,
    Process,
    Schedule,
    VarianceExploding,
    ZeroCenterOfMass,
)
from graft.sampler import Stage, run_stages
from graft.solvers.fixed_point import Anderson

DISTRIBUTION = Mixture(
    f64([0.4, 0.6]),
    f64([[-0.6, 0.3], [0.8, -0.2]]),
    f64([[[0.3, 0.1], [0.1, 0.4]], [[0.5, -0.1], [-0.1, 0.3]]]),
)
CASES: list[tuple[Schedule, str, float]] = [
    (LinearSchedule(), "velocity", 1.0),
    (LinearSchedule(), "v", 1.0),
    (LinearSchedule(), "velocity", 2.0),
    (CosineSchedule(), "v", 1.0),
    (CosineSchedule(), "velocity", 1.0),
    (PolynomialSchedule(), "eps", 1.0),
    (PolynomialSchedule(), "v", 2.0),
    (BetaSchedule(), "eps", 1.0),
    (BetaSchedule("scaled_linear", beta_start=0.00085, beta_end=0.012), "v", 1.0),
    (VarianceExploding(sigma_max=20.0, rho=3.0), "eps", 1.0),
    (VarianceExploding(sigma_max=20.0, rho=3.0), "velocity", 1.0),
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ids(case: object) -> "str | None":
    return type(case).__name__ if isinstance(case, Schedule) else None


@pytest.mark.parametrize(("schedule", "prediction", "warp"), CASES, ids=ids)
def test_noise_to_data_and_back(schedule: Schedule, prediction: str, warp: float) -> None:
    process = Gaussian(schedule, prediction, (2,), eta=0.0, warp=warp)
    model, steps = Exact(process, DISTRIBUTION), 40
    noise = process.prior(rows(64), seeded())
    down = run_stages([Stage(process, model)], rows(64), steps, record=[0.5], generator=seeded())
    up = run_stages([Stage(process, model, upwards=True)], rows(64), steps, record=[0.5], state=down.state)
    scale = float(noise.abs().max())
    assert (up.state - noise).abs().max() < 1e-7 * scale
    assert (up.states[0.5] - down.states[0.5]).abs().max() < 1e-8 * scale
    assert up.denoiser_calls >= steps


@pytest.mark.parametrize(("schedule", "prediction", "warp"), CASES, ids=ids)
def test_data_to_noise_and_back(schedule: Schedule, prediction: str, warp: float) -> None:
    process = Gaussian(schedule, prediction, (2,), eta=0.0, warp=warp)
    model, steps = Exact(process, DISTRIBUTION), 40
    data = DISTRIBUTION.sample(64, seeded(1))
    noise = run_stages([Stage(process, model, upwards=True)], rows(64), steps, state=data).state
    back = run_stages([Stage(process, model)], rows(64), steps, state=noise).state
    assert (back - data).abs().max() < 1e-8
    # and the noise is what the prior draws, to the steps' error: standard errors of 64 samples are 1/8
    sigma = float(process.alpha_sigma(1.0)[1])
    assert (noise / sigma).mean(0).abs().max() < 0.6 and ((noise / sigma).std(0) - 1).abs().max() < 0.45


@pytest.mark.parametrize(
    "schedule", [LinearSchedule(), PolynomialSchedule(), VarianceExploding(sigma_max=20.0, rho=3.0)], ids=ids
)
@pytest.mark.parametrize("prediction", ["x0", "logits"])
def test_estimates_of_data_invert_above_data(schedule: Schedule, prediction: str) -> None:
    """The last step to 0 forgets its state where x_0 is predicted; every other step is undone."""
    if prediction == "logits":
        distribution = Mixture(f64([0.3, 0.7]), torch.eye(2).double(), torch.zeros(2, 2, 2).double())
    else:
        distribution = DISTRIBUTION
    process = Gaussian(schedule, prediction, (2,) if prediction == "x0" else (1, 2), eta=0.0)
    model, steps = Exact(process, distribution), 40
    down = run_stages([Stage(process, model, Interval(low=0.25))], rows(64), steps, record=[1.0], generator=seeded())
    up = run_stages([Stage(process, model, Interval(low=0.25), upwards=True)], rows(64), steps, state=down.state)
    assert (up.state - down.states[1.0]).abs().max() < 1e-7 * float(up.state.abs().max())
    with pytest.raises(GraftError, match="level 0 keeps nothing"):
        run_stages([Stage(process, model, upwards=True)], rows(64), steps, state=down.state)


def coupled() -> tuple[MultiFieldProcess, Condition]:
    """Two fields in subspaces of their own; the network mixes them."""
    fields: dict[str, Process] = {
        "x": Gaussian(PolynomialSchedule(), "eps", (3, 3), eta=0.0, projection=ZeroCenterOfMass()),
        "h": Gaussian(LinearSchedule(), "velocity", (3, 2), eta=0.0, projection=MaskProjection()),
    }
    return MultiFieldProcess(fields), {"mask": f64([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])}


def mixing(state: dict[str, Tensor], time: Tensor, condition: Condition) -> dict[str, Tensor]:
    x, h = state["x"], state["h"]
    t = time[:, None, None].double()
    near = torch.tanh((x[:, :, None] - x[:, None]).square().sum(-1)).sum(-1, keepdim=True)
    return {
        "x": t * x + 0.2 * torch.tanh(x) * h.sum(-1, keepdim=True).sin(),
        "h": t * h + 0.2 * torch.cat([near, x.sum(-1, keepdim=True)], -1).sin(),
    }


def test_dict_state() -> None:
    process, condition = coupled()
    noise = process.prior(condition, seeded())
    down = run_stages([Stage(process, mixing)], condition, 30, state=noise)
    up = run_stages([Stage(process, mixing, upwards=True)], condition, 30, state=down.state)
    again = run_stages([Stage(process, mixing)], condition, 30, state=up.state)
    for name, field in noise.items():
        assert (down.state[name] - field).abs().max() > 0.1
        assert (up.state[name] - field).abs().max() < 1e-9
        assert (again.state[name] - down.state[name]).abs().max() < 1e-9
    assert (up.state["h"][1, 2] == 0).all() and up.state["x"].sum(1).abs().max() < 1e-9


def test_stochastic_steps_do_not_invert() -> None:
    stochastic = Gaussian(LinearSchedule(), "velocity", (2,), eta=1.0)
    mixed = MultiFieldProcess({"x": Gaussian(LinearSchedule(), "velocity", (2,), eta=0.0), "h": stochastic})
    assert stochastic.stochastic and not stochastic.invertible and stochastic.reverses_in_distribution(1.0)
    assert mixed.stochastic and not mixed.invertible and not mixed.reverses_in_distribution(1.0)
    x = torch.zeros(2, 2, dtype=torch.float64)
    states: list[tuple[Process, State]] = [(stochastic, x), (mixed, {"x": x, "h": x})]
    for process, state in states:
        with pytest.raises(InversionError, match="eta=0"):
            run_stages([Stage(process, lambda s, t, c: s, upwards=True)], rows(2), 10, state=state)


def test_step_without_an_inverse() -> None:
    """x − h x² has no preimage above 1 / (4h): one clear error that counts the samples, and it is a GraftError."""
    process = Gaussian(LinearSchedule(), "velocity", (1,), eta=0.0)
    state = f64([[0.1], [0.2], [9.0]])
    with pytest.raises(InversionError, match=r"1 of 3 samples.*more steps") as error:
        run_stages([Stage(process, lambda x, t, c: x**2, Interval(0.0, 0.5), upwards=True)], rows(3), 10, state=state)
    assert isinstance(error.value, GraftError)
    smaller = run_stages(
        [Stage(process, lambda x, t, c: x**2, Interval(0.0, 0.5), upwards=True)], rows(2), 10, state=state[:2]
    )
    assert smaller.state.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_network_that_breaks_for_one_sample(dtype: torch.dtype) -> None:
    """NaN, and numbers that overflow, for one sample: it is counted, the others are no worse for it."""
    process = Gaussian(LinearSchedule(), "velocity", (2,), eta=0.0)
    state = torch.tensor([[0.5, 0.2], [-1.0, 3.0]], dtype=dtype)
    for breaking in (lambda x: x / 0, lambda x: x**9 * 1e20, lambda x: x.exp().exp().exp()):

        def model(x: Tensor, time: Tensor, condition: Condition, breaking=breaking) -> Tensor:
            return torch.cat([torch.tanh(x[:-1]), breaking(x[-1:])])

        with pytest.raises(InversionError, match="1 of 2"):
            run_stages([Stage(process, model, Interval(0.0, 0.5), upwards=True)], rows(2), 4, state=state)


def test_slow_contraction_is_solved() -> None:
    """A linear map of slope 0.999, which plain iteration needs 35000 rounds for, and an expanding one."""
    calls = 0

    def function(x: State, rows: Tensor) -> State:
        nonlocal calls
        calls += 1
        assert isinstance(x, Tensor)
        return slopes[rows] * x + 1.0

    slopes = f64([[0.999, -0.9], [-1.5, 0.3]])
    found = Anderson()(function, torch.zeros(2, 2, dtype=torch.float64))
    assert torch.allclose(found.state, 1 / (1 - slopes), rtol=1e-9)
    assert calls < 40


def test_float32() -> None:
    process = Gaussian(LinearSchedule(), "velocity", (2,), eta=0.0)
    exact = Exact(process, DISTRIBUTION)

    def model(x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        return exact(x.double(), time, condition).float()

    noise = process.prior({"row": torch.zeros(16)}, seeded())
    assert noise.dtype == torch.float32
    data = run_stages([Stage(process, model)], rows(16), 20, state=noise).state
    assert data.dtype == torch.float32
    back = run_stages([Stage(process, model, upwards=True)], rows(16), 20, state=data).state
    assert (back - noise).abs().max() < 2e-2
