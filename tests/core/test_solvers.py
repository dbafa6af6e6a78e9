"""Solvers: their orders on distributions whose flow is known, and steps that undo each other."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
from exact import Exact, Mixture, Precise, f64, normal, rows
from test_inversion import CASES, DISTRIBUTION, coupled, ids, mixing, seeded
from torch import Tensor

from graft.core.state import State
from graft.errors import GraftError, InversionError
from graft.process import (
    BetaSchedule,
    CosineSchedule,
    Gaussian,
    LinearSchedule,
    MaskedCategorical,
    MaskProjection,
    MultiFieldProcess,
    PolynomialSchedule,
    Process,
    Schedule,
    TrigFlow,
    VarianceExploding,
    ZeroCenterOfMass,
)
from graft.sampler import Stage, run_stages
from graft.solvers import BoundModel, Euler, Heun, Midpoint, RungeKutta2, Solver
from graft.solvers.second_order import second_slope

SECOND = {"heun": Heun(), "midpoint": Midpoint(), "ralston": RungeKutta2(2 / 3)}
MEAN, COV = f64([0.5, -1.0]), f64([[0.6, 0.2], [0.2, 0.3]])


def transported(process: Gaussian, noise: Tensor) -> Tensor:
    """Return the images of noise (n, 2) under the flow of the Gaussian, in closed form: affine, with the same axes."""
    top = normal(MEAN, COV).at(process, 1.0)
    size, axes = torch.linalg.eigh(COV)
    started = torch.linalg.eigvalsh(top.covs[0])  # ascending, as `size` is
    scaled = (noise - top.means[0]) @ axes * (size / started).sqrt()
    return MEAN + scaled @ axes.mT


SMOOTH: list[tuple[Schedule, str]] = [  # a table of betas has kinks
    (LinearSchedule(), "velocity"),
    (CosineSchedule(), "v"),
    (PolynomialSchedule(), "eps"),
    (VarianceExploding(sigma_max=20.0, rho=3.0), "velocity"),
]
WARPS = [1.0, 2.0, 3.0]
SOME_WARPS = [1.0, pytest.param(2.0, marks=pytest.mark.slow), 3.0]


@pytest.mark.parametrize("warp", SOME_WARPS)
@pytest.mark.parametrize(("schedule", "prediction"), SMOOTH, ids=ids)
def test_order(schedule: Schedule, prediction: str, warp: float) -> None:
    """Half the step is a quarter of the error, half of it for Euler; and the limit is the flow of the distribution."""
    process = Precise(schedule, prediction, (2,), eta=0.0, warp=warp)
    model = Exact(process, normal(MEAN, COV))
    noise = process.prior(rows(32), seeded())
    goal = transported(process, noise)

    def error(how: Solver, steps: int) -> float:
        found = run_stages([Stage(process, model, solver=how)], rows(32), steps, state=noise)
        assert found.denoiser_calls == how.denoiser_calls(steps)
        assert isinstance(found.state, Tensor)
        return float((found.state - goal).square().mean().sqrt())

    first = error(Euler(), 48)
    assert 0.8 < math.log2(error(Euler(), 24) / first) < 1.3
    for solver in SECOND.values():
        fine, coarse = error(solver, 48), error(solver, 24)
        assert math.log2(coarse / fine) > 1.7
        assert fine < 0.2 * first


def two_stages(share: float, distribution: Mixture, x: Tensor, times: Sequence[float]) -> Tensor:
    """Runge-Kutta's two-stage method on dy/dτ = E[ε − x_0 | y], y = (1 − τ) x_0 + τ ε, through ``times``."""

    def slope(y: Tensor, time: float) -> Tensor:
        _, x0 = distribution.posterior(y, f64([1 - time]).expand(len(y)), f64([time]).expand(len(y)))
        return (y - x0) / time if time > 0 else slope(y, 1e-9)

    y = x
    for now, then in itertools.pairwise(times):
        step = then - now
        first = slope(y, now)
        second = slope(y + share * step * first, now + share * step)
        y = y + step * ((1 - 1 / (2 * share)) * first + 1 / (2 * share) * second)
    return y


@pytest.mark.parametrize("warp", SOME_WARPS)
@pytest.mark.parametrize(("schedule", "prediction"), [*SMOOTH, (BetaSchedule(), "v")], ids=ids)
def test_second_slope_is_a_share_of_the_odes_time(schedule: Schedule, prediction: str, warp: float) -> None:
    """A step is that of Runge-Kutta's method in τ = σ / (α + σ), for any schedule and warp."""
    process = Precise(schedule, prediction, (2,), eta=0.0, warp=warp)
    model, noise = Exact(process, DISTRIBUTION), process.prior(rows(16), seeded())
    alpha, sigma = process.alpha_sigma(torch.linspace(1, 0, 9, dtype=torch.float64))
    times = (sigma / (alpha + sigma)).tolist()
    for solver in SECOND.values():
        found = run_stages([Stage(process, model, solver=solver)], rows(16), 8, state=noise).state
        wanted = two_stages(solver.alpha, DISTRIBUTION, noise / float(alpha[0] + sigma[0]), times)
        assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("schedule", "prediction"), [(LinearSchedule(), "velocity"), (CosineSchedule(), "v")], ids=ids)
def test_error_does_not_depend_on_the_warp(schedule: Schedule, prediction: str) -> None:
    """At the same times the error is that of warp 1; for a mixture it is of second order for every method."""
    times = torch.linspace(1, 0, 17, dtype=torch.float64)

    def sampled(solver: Solver, warp: float, every: int = 1) -> Tensor:
        process = Precise(schedule, prediction, (2,), eta=0.0, warp=warp)
        model, x = Exact(process, DISTRIBUTION), process.prior(rows(32), seeded())
        levels = (times[::every] ** (1 / warp)).tolist()
        for now, then in itertools.pairwise(levels):
            x = solver.step(BoundModel(process, model, rows(32)), x, now, then, None)
        return x

    process = Precise(schedule, prediction, (2,), eta=0.0)
    start = process.prior(rows(32), seeded())
    goal = run_stages(
        [Stage(process, Exact(process, DISTRIBUTION), solver=Midpoint())], rows(32), 200, state=start
    ).state
    for solver in SECOND.values():
        constants = [float((sampled(solver, warp) - goal).square().mean().sqrt()) for warp in WARPS]
        assert max(constants) < min(constants) * (1 + 1e-6)
        assert 3 < float((sampled(solver, 2.0, 2) - goal).square().mean().sqrt()) / constants[0] < 6


def test_fields_with_times_of_their_own() -> None:
    """A process of two schedules and warps on one clock is of second order, too."""
    fields: dict[str, Process] = {
        "x": Gaussian(CosineSchedule(), "v", (3, 3), eta=0.0, warp=3.0, projection=ZeroCenterOfMass()),
        "h": Gaussian(LinearSchedule(), "velocity", (3, 2), eta=0.0, projection=MaskProjection()),
    }
    _, condition = coupled()
    for order in (fields, dict(reversed(fields.items()))):
        process = MultiFieldProcess(order)
        noise = process.prior(condition, seeded())

        def sampled(solver: Solver, steps: int, process: Process = process, noise: State = noise) -> dict[str, Tensor]:
            state = run_stages([Stage(process, mixing, solver=solver)], condition, steps, state=noise).state
            assert isinstance(state, dict)
            return state

        goal = sampled(Midpoint(), 120)
        for solver in SECOND.values():
            for name in fields:
                coarse, fine = (float((sampled(solver, n)[name] - goal[name]).norm()) for n in (15, 30))
                assert 1.7 < math.log2(coarse / fine) < 3.5


def test_place_and_weight_of_the_second_slope() -> None:
    for schedule in (LinearSchedule(), CosineSchedule(), PolynomialSchedule(), BetaSchedule(), VarianceExploding()):
        for warp in WARPS:
            process = Gaussian(schedule, "v", (2,), eta=0.0, warp=warp)
            for level, next_level in ((1.0, 0.75), (0.5, 0.25), (0.05, 0.0)):
                for share in (0.5, 2 / 3, 1.0):
                    between, weight = second_slope(process, level, next_level, share)
                    start, middle, end = (float(process.ode_time(u)) for u in (level, between, next_level))
                    assert next_level <= between < level
                    assert middle == pytest.approx(start + share * (end - start), rel=1e-9, abs=1e-15)
                    assert float(weight) == pytest.approx(1 / (2 * share), rel=1e-9)
    for process in (Gaussian(LinearSchedule(), "velocity", (2,), eta=0.0), TrigFlow((2,))):
        assert second_slope(process, 1.0, 0.5, 0.5) == (0.75, 1.0)
        assert second_slope(process, 0.5, 0.5, 0.5) == (0.5, 0.0)
    with pytest.raises(GraftError, match="use the Euler solver"):
        second_slope(MaskedCategorical((2, 3)), 1.0, 0.5, 0.5)


@pytest.mark.parametrize(("schedule", "prediction", "warp"), CASES, ids=ids)
def test_first_slope_is_ddim(schedule: Schedule, prediction: str, warp: float) -> None:
    process = Gaussian(schedule, prediction, (2,), eta=0.0, warp=warp)
    x = process.prior(rows(16), seeded())
    output = process(Exact(process, DISTRIBUTION), x, 0.75, rows(16))
    along = process.ode_step(x, process.ode_velocity(output, x, 0.75, rows(16)), 0.75, 0.25)
    assert torch.allclose(along, process.denoise_step(output, x, 0.75, 0.25, rows(16), None), rtol=1e-10, atol=1e-10)
    assert torch.allclose(process.ode_step(along, x, 0.25, 0.25), along)
    there = process.ode_step(x, output, 0.75, 0.25)
    assert torch.allclose(process.ode_step(there, output, 0.25, 0.75), x, rtol=1e-9, atol=1e-9)


SOLVERS = {**SECOND, "heun to Euler": Heun(evaluate_at_zero=False)}
PAIRS = [  # each case with one solver and each solver with several cases; the others with -m slow
    pytest.param(
        *case, solver, id=f"{ids(case[0])}-{case[1]}-{case[2]}-{name}", marks=[pytest.mark.slow] * (i % 4 != j)
    )
    for i, case in enumerate(CASES)
    for j, (name, solver) in enumerate(SOLVERS.items())
]


@pytest.mark.parametrize(("schedule", "prediction", "warp", "solver"), PAIRS)
def test_noise_to_data_and_back(schedule: Schedule, prediction: str, warp: float, solver: Solver) -> None:
    process = Gaussian(schedule, prediction, (2,), eta=0.0, warp=warp)
    model = Exact(process, DISTRIBUTION)
    noise = process.prior(rows(32), seeded())
    down = run_stages([Stage(process, model, solver=solver)], rows(32), 20, state=noise)
    up = run_stages([Stage(process, model, upwards=True, solver=solver)], rows(32), 20, state=down.state)
    assert isinstance(up.state, Tensor)
    assert (up.state - noise).abs().max() < 1e-7 * float(noise.abs().max())


def test_inverse_of_a_linear_flow_in_closed_form() -> None:
    """For N(0, s²) a step of the flow is x ↦ c x, so the noise of x is x over the product of the c, for any s."""
    process, steps = Gaussian(LinearSchedule(), "velocity", (1,), eta=0.0), 10
    for solver in (Euler(), *SECOND.values()):
        for spread in (0.3, 2.0):
            model = Exact(process, normal(f64([0.0]), f64([[spread**2]])))
            one = run_stages([Stage(process, model, solver=solver)], rows(1), steps, state=f64([[1.0]])).state
            data = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
            noise = run_stages([Stage(process, model, upwards=True, solver=solver)], rows(9), steps, state=data).state
            assert isinstance(one, Tensor) and isinstance(noise, Tensor)
            assert torch.allclose(noise, data / one, rtol=1e-10)


@pytest.mark.parametrize("solver", SECOND.values(), ids=SECOND)
def test_rotation_of_standard_normal_data_is_left_alone(solver: Solver) -> None:
    process = TrigFlow((2,))
    noise = process.prior(rows(8), seeded())
    still = run_stages([Stage(process, lambda x, t, c: 0 * x, solver=solver)], rows(8), 3, state=noise).state
    assert torch.equal(still, noise)
    distribution = normal(MEAN, COV)

    def error(steps: int) -> float:
        found = run_stages(
            [Stage(process, Exact(process, distribution), solver=solver)], rows(8), steps, state=noise
        ).state
        assert isinstance(found, Tensor)
        return float((found - transported(process, noise)).square().mean().sqrt())

    assert math.log2(error(40) / error(80)) > 1.7


def test_dict_state() -> None:
    process, condition = coupled()
    noise = process.prior(condition, seeded())
    for solver in SECOND.values():
        down = run_stages([Stage(process, mixing, solver=solver)], condition, 15, state=noise)
        up = run_stages([Stage(process, mixing, upwards=True, solver=solver)], condition, 15, state=down.state)
        for name, field in noise.items():
            assert (up.state[name] - field).abs().max() < 1e-9
        assert (down.state["h"][1, 2] == 0).all() and down.state["x"].sum(1).abs().max() < 1e-9


def test_last_slope_of_data_predictions() -> None:
    """At level 0 an estimate of x_0 does not determine the noise: the message states that and a remedy."""
    process = Gaussian(LinearSchedule(), "x0", (2,), eta=0.0)
    model = Exact(process, DISTRIBUTION)
    with pytest.raises(GraftError, match="evaluate_at_zero=false"):
        run_stages([Stage(process, model, solver=Heun())], rows(4), 10, generator=seeded())
    for solver in (Heun(evaluate_at_zero=False), Midpoint()):
        assert (
            run_stages([Stage(process, model, solver=solver)], rows(4), 10, generator=seeded()).state.isfinite().all()
        )


def test_refusals() -> None:
    stochastic = Gaussian(LinearSchedule(), "velocity", (2,), eta=1.0)
    Euler().check(stochastic)
    for solver in SECOND.values():
        with pytest.raises(GraftError, match="set eta=0"):
            solver.check(stochastic)
        with pytest.raises(InversionError, match="eta=0"):
            run_stages(
                [Stage(stochastic, Exact(stochastic, DISTRIBUTION), upwards=True, solver=solver)],
                rows(2),
                5,
                state=torch.zeros(2, 2),
            )
    for a in (0.0, 1.5, math.nan):
        with pytest.raises(GraftError, match=r"alpha is .*; it must be above 0 and at most 1"):
            RungeKutta2(a)


def test_mixture_is_sampled_better_at_equal_calls() -> None:
    """Two blobs: second order is nearer to the exact flow at 32 calls."""
    distribution = Mixture(f64([0.5, 0.5]), f64([[-1.0, 0.0], [1.0, 0.0]]), 0.1 * torch.eye(2).double().repeat(2, 1, 1))
    process = Gaussian(LinearSchedule(), "velocity", (2,), eta=0.0)
    model, noise = Exact(process, distribution), process.prior(rows(200), seeded())
    goal = run_stages([Stage(process, model, solver=Midpoint())], rows(200), 400, state=noise).state

    def error(solver: Solver, steps: int) -> float:
        found = run_stages([Stage(process, model, solver=solver)], rows(200), steps, state=noise).state
        return float((found - goal).square().mean().sqrt())

    assert max(error(solver, 16) for solver in SECOND.values()) < 0.6 * error(Euler(), 32)
