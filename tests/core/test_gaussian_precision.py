"""Losses, steps and densities of Gaussian processes in single and half precision, at both ends of the clock."""

import itertools
import math
from typing import Any
from unittest import mock

import pytest
import torch
from exact import Exact, f64, level_of, normal, rows, say
from line import line
from mpmath import mp, mpf
from torch import Tensor, nn

from graft import GraftError, TrainingBatch
from graft.core import seeding
from graft.core.interval import Interval
from graft.errors import InversionError
from graft.objectives import AnchoredShaping, DiffusionNFT
from graft.process import (
    BetaSchedule,
    CosineSchedule,
    Gaussian,
    LinearSchedule,
    MultiFieldProcess,
    NoisyExample,
    PolynomialSchedule,
    Schedule,
    TrigFlow,
    VarianceExploding,
)
from graft.sampler import Stage, run_stages
from graft.solvers import Heun, Midpoint

mp.dps = 60
SCHEDULES: dict[str, Schedule] = {
    "flow": LinearSchedule(),
    "cosine": CosineSchedule(),
    "polynomial": PolynomialSchedule(),
    "exploding": VarianceExploding(),
    "linear": BetaSchedule(),
}
CASES = [
    (name, prediction)
    for name, prediction in itertools.product(SCHEDULES, ("eps", "x0", "v", "velocity"))
    if (name, prediction) not in (("flow", "eps"), ("cosine", "eps"))
]
DISTANCES = [1e-12, 1e-9, 1e-6, 1e-3]
COUNT, SIZE = 6, 3


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).to(dtype)


def right_loss(
    process: Gaussian, out: float, state: float, noise: float, level: float, from_level: float, target: "float | None"
) -> Any:
    """The definition, as an error of x_0, with 60 digits: share · weight · (estimate − target)²."""
    (a, s), (a0, s0) = ([mpf(float(c)) for c in process.alpha_sigma(u)] for u in (level, from_level))
    out, state, noise = mpf(out), mpf(state), mpf(noise)
    ratio = a / a0
    step = mp.sqrt(max(s**2 - ratio**2 * s0**2, mpf(0)))
    if step == 0:
        step = mpf(10) ** -30
    x = ratio * state + step * noise
    parts = {"eps": (1, 0), "v": (a, -s), "velocity": (1, -1), "x0": (0, 1)}[process.prediction_type]
    # out = p eps + q x_0 and x = a x_0 + s eps
    p, q = mpf(parts[0]), mpf(parts[1])
    x0, own = (out - p * x / s) / (q - p * a / s), (q - p * a / s) ** 2
    weight = (
        own
        if process.snr_weight_clamp is None
        else min(max((a / s) ** 2, mpf(process.snr_weight_clamp[0])), mpf(process.snr_weight_clamp[1]))
    )
    if target is not None:
        return weight * (x0 - mpf(target)) ** 2
    goal = (state - a * s0**2 / (a0 * step) * noise) / a0
    return (step / s) ** 2 * weight * (x0 - goal) ** 2


@pytest.mark.parametrize("weight", [None, (0.2, 100.0)])
@pytest.mark.parametrize("warp", [1.0, 2.0])
@pytest.mark.parametrize(("name", "prediction"), CASES)
def test_loss(name: str, prediction: Any, warp: float, weight: "tuple[float, float] | None") -> None:
    """Return the loss from 1e-12 above data or a level to 1, in single precision, with a finite gradient."""
    process = Gaussian(SCHEDULES[name], prediction, (1,), warp=warp, snr_weight_clamp=weight)
    for from_level, goal in ((0.0, None), (0.25, None), (0.25, "b"), (0.02, None)):
        level = f64([*(from_level + d for d in DISTANCES), 0.3, 0.7, 1 - 1e-9, 1.0])
        state, noise, out, target = (numbers(len(level), 1, seed=i) for i in range(4))
        given = target if goal == "b" else None
        noisy = process.corrupt_given_noise(state, noise, level, from_level)
        leaf = out.clone().requires_grad_()
        s = torch.full_like(level, from_level)
        found = process.output_loss(leaf, NoisyExample(noisy, state, noise, level, s, given), rows(len(level)))
        (slope,) = torch.autograd.grad(found.sum(), leaf)
        found = found.detach()
        assert bool(found.isfinite().all()) and bool(slope.isfinite().all())
        for i, u in enumerate(level.tolist()):
            place = (
                float(out[i]),
                float(state[i]),
                float(noise[i]),
                u,
                from_level,
                None if given is None else float(given[i]),
            )
            right = right_loss(process, *place)
            assert float(found[i]) == pytest.approx(float(right), rel=2e-3, abs=1e-5), (u, from_level)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "prediction"), CASES)
def test_every_level_is_finite(name: str, prediction: Any, dtype: torch.dtype) -> None:
    """At the level of the state itself, at data and at noise, in half and in double precision."""
    process = Gaussian(SCHEDULES[name], prediction, (SIZE,), warp=2.0)
    weight = torch.full((1,), 0.5, requires_grad=True)
    for from_level, level in (
        (0.0, f64([0.0, 1e-15, 1e-8, 1e-3, 0.5, 1.0])),
        (0.5, f64([0.5, 0.5 + 1e-16, 0.501, 0.6, 0.9, 1])),
    ):
        state = numbers(COUNT, SIZE, dtype=dtype)
        losses = []
        for kind in (dtype, torch.float64):

            def model(x: Tensor, time: Tensor, condition: Any, kind: torch.dtype = kind) -> Tensor:
                return (weight.double() * numbers(COUNT, SIZE, seed=5).double()).to(kind)

            noise = numbers(COUNT, SIZE, seed=1, dtype=dtype).to(kind)
            with mock.patch.object(process, "noise", lambda *_, noise=noise: noise):
                losses.append(process.loss(model, state.to(kind), level, from_level, rows(COUNT)))
        assert losses[0].dtype == torch.float32 and bool(losses[0].isfinite().all())
        (slope,) = torch.autograd.grad(losses[0].sum(), weight)
        assert bool(slope.isfinite().all())
        if prediction != "x0" or dtype == torch.float32:
            assert torch.allclose(losses[0].double(), losses[1], rtol=0.02, atol=1e-3)


@pytest.mark.parametrize(("name", "prediction"), CASES)
def test_distance_is_the_loss_of_data(name: str, prediction: Any) -> None:
    process = Gaussian(SCHEDULES[name], prediction, (SIZE,))
    level = f64([1e-12, 1e-9, 1e-5, 0.1, 0.7, 1.0])
    clean, noise, output = (numbers(COUNT, SIZE, seed=i) for i in range(3))
    noisy = process.corrupt_given_noise(clean, noise, level, 0.0)
    found = process.x0_error(process.loss_output(output, noisy, level), process.loss_target(clean, noise, level), level)
    wanted = process.output_loss(output, NoisyExample(noisy, clean, noise, level, torch.zeros_like(level)), rows(COUNT))
    assert torch.allclose(found, wanted, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "v", "velocity"])
@pytest.mark.parametrize(
    "schedule", [VarianceExploding(), VarianceExploding(20.0, 3.0), CosineSchedule(), PolynomialSchedule()]
)
def test_training_stays_finite(schedule: Schedule, prediction: Any) -> None:
    """Single precision, a small network, half of the levels close above data; and it learns."""
    if isinstance(schedule, CosineSchedule) and prediction == "eps":
        prediction = "x0"
    torch.manual_seed(0)
    process = Gaussian(schedule, prediction, (2,), warp=2.0)
    net = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))
    top = float(process.alpha_sigma(1.0)[1])
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)

    def model(x: Tensor, time: Tensor, condition: Any) -> Tensor:
        scale = process.alpha_sigma(level_of(process, time).clamp(min=1e-6))[1].float()[:, None]
        out: Tensor = net(torch.cat([x / (1 + scale), scale.log()], 1))
        return out * (top if prediction == "v" else 1.0)

    losses = []
    for step in range(120):
        generator = seeding.make_generator(0, step)
        state = f64([1.0, -0.5]).float() + 0.3 * torch.randn(64, 2, generator=generator)
        level = torch.rand(64, dtype=torch.float64, generator=generator)
        level[::2] = 10 ** (-12 * level[::2])
        loss = process.loss(model, state, level, 0.0, rows(64), generator=generator).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert all(map(math.isfinite, losses))
    assert sum(losses[-20:]) < 0.9 * sum(losses[:20])


@pytest.mark.parametrize("objective", [AnchoredShaping, DiffusionNFT])
@pytest.mark.parametrize(
    ("name", "prediction"), [("exploding", "eps"), ("exploding", "v"), ("cosine", "v"), ("flow", "velocity")]
)
def test_objectives_that_compare_networks(name: str, prediction: Any, objective: Any) -> None:
    """Their gradients in single precision are those in double precision, close above data too."""
    slopes = []
    for dtype in (torch.float32, torch.float64):
        process = Gaussian(SCHEDULES[name], prediction, (2,), eta=1.0)
        table = numbers(9, 2, 3, dtype=torch.float64)
        module = line(process, 8, table, objective())
        if objective is AnchoredShaping:
            module.objective.source = "reference"
        module.to(dtype)
        module.policy.reference.to(dtype)
        with torch.no_grad():
            module.policy.backbone.table += 0.1 * numbers(9, 2, 3, seed=1).to(dtype)
        level = f64([1e-12, 1e-9, 1e-6, 1e-3, 0.5, 1.0])
        state, weight = numbers(COUNT, 2, seed=2).to(dtype), torch.linspace(0, 1, COUNT).to(dtype)
        noise = numbers(COUNT, 2, seed=3).to(dtype)
        with mock.patch.object(seeding, "stratified_levels", lambda *_, level=level: level):
            with mock.patch.object(process, "noise", lambda *_, noise=noise: noise):
                loss, _ = module.objective.loss(module.policy, TrainingBatch(state, rows(COUNT), weight))
        loss.backward()
        slopes.append(module.policy.backbone.table.grad.double())
    assert bool(slopes[0].isfinite().all()) and float(slopes[1].abs().max()) > 1e-3
    assert float((slopes[0] - slopes[1]).norm()) < 1e-4 * float(slopes[1].norm())


DISTRIBUTION = normal(f64([0.8, -0.5]), f64([[0.7, 0.3], [0.3, 0.4]]))


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "velocity"])
@pytest.mark.parametrize(
    ("eta", "solver"), [(1.0, None), (0.0, None), (0.0, Midpoint()), (0.0, Heun(evaluate_at_zero=False))]
)
def test_exploding_samples(prediction: Any, eta: float, solver: Any) -> None:
    """Single precision, sigma from 80 to 0.002: five moments at 4.5 standard errors, and the error of finite steps."""
    process = Gaussian(VarianceExploding(), prediction, (2,), eta=eta)
    count = 4000

    def model(x: Tensor, time: Tensor, condition: Any) -> Tensor:
        alpha, sigma = process.alpha_sigma(time[:1].double())  # the level is the time, and not on a grid
        x0 = DISTRIBUTION.posterior(x.double(), alpha.expand(len(x)), sigma.expand(len(x)))[1]
        return say(process.prediction_type, x.double(), x0, alpha, sigma).float()

    given = {"row": torch.zeros(count)}
    stage = Stage(process, model) if solver is None else Stage(process, model, solver=solver)
    drawn = run_stages([stage], given, 200 if eta else 40, generator=torch.Generator().manual_seed(0)).state
    assert drawn.dtype == torch.float32
    mean, cov = DISTRIBUTION.moments()
    assert float((drawn.double().mean(0) - mean).abs().max()) < 4.5 * (0.7 / count) ** 0.5 + 0.01
    assert float((torch.cov(drawn.double().T) - cov).abs().max()) < 4.5 * 0.7 * (2 / count) ** 0.5 + 0.04


# Densities of steps


@pytest.mark.parametrize(
    ("schedule", "prediction", "warp", "steps"),
    [
        (VarianceExploding(), "eps", 1.0, 40),
        (VarianceExploding(), "v", 2.0, 100),
        (CosineSchedule(), "v", 2.0, 1000),
        (PolynomialSchedule(), "x0", 2.0, 1000),
        (LinearSchedule(), "velocity", 3.0, 50),
        (BetaSchedule(), "eps", 1.0, 1000),
    ],
)
def test_densities(schedule: Schedule, prediction: Any, warp: float, steps: int) -> None:
    """Densities of single-precision states equal those of double precision near noise and near data."""
    process = Gaussian(schedule, prediction, (SIZE,), warp=warp)
    condition = {"row": torch.zeros(COUNT)}
    for i in (steps, steps // 2, 2):
        level, following = i / steps, (i - 1) / steps
        state = process.corrupt(numbers(COUNT, SIZE), level, generator=torch.Generator().manual_seed(1))
        output = numbers(COUNT, SIZE, seed=2)
        other = output + 1e-3 * numbers(COUNT, SIZE, seed=3)
        reached = process.denoise_step(output, state, level, following, condition, torch.Generator().manual_seed(4))
        double = [s.double() for s in (output, other, state, reached)]
        kl = process.step_kl(output, other, state, level, following, condition)
        assert torch.allclose(kl.double(), process.step_kl(*double[:3], level, following, condition), rtol=1e-5)
        ratio = [
            process.log_prob(o, state, reached, level, following, condition)
            - process.log_prob(other, state, reached, level, following, condition)
            for o in (output, other)
        ]
        exact = process.log_prob(double[0], double[2], double[3], level, following, condition) - process.log_prob(
            double[1], double[2], double[3], level, following, condition
        )
        assert float(ratio[1].abs().max()) == 0 and kl.dtype == ratio[0].dtype == torch.float32
        assert torch.allclose(ratio[0].double(), exact, atol=2e-5 * (1 + float(exact.abs().max())))


def test_steps_in_half_precision() -> None:
    """States keep their type; a step is rounded once, at its end."""
    for process in (
        Gaussian(CosineSchedule(), "v", (SIZE,)),
        Gaussian(LinearSchedule(), "velocity", (SIZE,), eta=0.0),
        TrigFlow((SIZE,)),
    ):
        state, output = numbers(COUNT, SIZE, dtype=torch.bfloat16), numbers(COUNT, SIZE, seed=1, dtype=torch.bfloat16)
        condition = {"row": torch.zeros(COUNT, dtype=torch.bfloat16)}
        mean, _ = process.transition(output, state, 0.5, 0.45, condition)
        wide, _ = process.transition(output.double(), state.double(), 0.5, 0.45, condition)
        assert torch.allclose(mean.double(), wide, atol=1e-6)
        noise = torch.zeros(COUNT, SIZE)
        with mock.patch.object(process, "noise", lambda *_, noise=noise: noise):
            reached = process.denoise_step(output, state, 0.5, 0.45, condition, None)
        assert reached.dtype == torch.bfloat16 and torch.equal(reached, mean.to(torch.bfloat16))
        assert process.corrupt(state, 0.5, condition=condition).dtype == torch.bfloat16
        assert process.prior(condition).dtype == torch.bfloat16


# What cannot be sampled rightly is refused, or clipped


COSINE_TABLE = BetaSchedule("squaredcos_cap_v2")


def test_eps_with_next_to_no_signal_is_refused() -> None:
    with pytest.raises(GraftError, match=r"alpha is 4\.9e-05, as BetaSchedule has it at level 1"):
        Gaussian(COSINE_TABLE, "eps", (2,))
    with pytest.raises(GraftError, match="next to nothing"):
        Gaussian(PolynomialSchedule(offset=1e-8), "eps", (2,))
    for schedule, prediction in (
        (COSINE_TABLE, "v"),
        (COSINE_TABLE, "x0"),
        (PolynomialSchedule(), "eps"),
        (BetaSchedule(), "eps"),
    ):
        Gaussian(schedule, prediction, (2,))  # type: ignore[arg-type]
    Gaussian(BetaSchedule("scaled_linear", beta_start=0.00085, beta_end=0.012), "eps", (2,))
    with pytest.raises(GraftError, match="alpha is 0"):  # no clipping helps where the output says nothing
        Gaussian(LinearSchedule(), "eps", (2,), clip_sample_range=1.0)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_clipping_bounds_what_an_error_does(eta: float) -> None:
    """Data in [-1, 1], and an error of 0.01 of the network: samples are where they belong; without clipping they were
    12 standard deviations off."""
    process = Gaussian(COSINE_TABLE, "eps", (2,), eta=eta, clip_sample_range=1.0)
    distribution, count = normal(f64([0.3, -0.2]), 0.04 * torch.eye(2, dtype=torch.float64)), 2000
    exact = Exact(process, distribution, 1000)

    def model(x: Tensor, time: Tensor, condition: Any) -> Tensor:
        return exact(x, time, condition) + 0.01

    drawn = run_stages([Stage(process, model)], rows(count), 25, generator=torch.Generator().manual_seed(0)).state
    assert float((drawn.mean(0) - distribution.means[0]).abs().max()) < 0.1
    assert float(drawn.std(0).max()) < 0.4 and float(drawn.abs().max()) <= 1


@pytest.mark.parametrize("step", [999, 700, 30])
def test_clipped_steps_are_those_of_diffusers(step: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", clip_sample=True, clip_sample_range=0.8)
    process = Gaussian(COSINE_TABLE, "eps", (SIZE,), clip_sample_range=0.8)
    state, output = numbers(COUNT, SIZE), numbers(COUNT, SIZE, seed=1)
    level, following = (step + 1) / 1000, step / 1000
    wanted = theirs.step(output, step, state, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(process.predict_x0(output, state, level), wanted.pred_original_sample, atol=2e-3)
    assert float(process.predict_x0(output, state, level).abs().max()) <= 0.8 + 1e-6
    found = process.denoise_step(output, state, level, following, {}, torch.Generator().manual_seed(2))
    assert torch.allclose(found, wanted.prev_sample, atol=2e-3)


def test_clipping_leaves_losses_and_inversion_alone() -> None:
    free, clipped = (Gaussian(LinearSchedule(), "velocity", (SIZE,), eta=0.0, clip_sample_range=c) for c in (None, 0.1))
    assert free.invertible and not clipped.invertible and not clipped.stochastic
    state = numbers(COUNT, SIZE)

    def model(x: Tensor, time: Tensor, condition: Any) -> Tensor:
        return 3 * x

    losses = [
        p.loss(model, state, torch.full((COUNT,), 0.5).double(), 0.0, {}, generator=torch.Generator().manual_seed(0))
        for p in (free, clipped)
    ]
    assert torch.equal(*losses)
    with pytest.raises(InversionError, match=r"clips its estimates of x_0.*leave out clip_sample_range"):
        run_stages([Stage(clipped, model, Interval(0.0, 0.5), upwards=True)], rows(COUNT), 4, state=state)
    for solver in (Midpoint(), Heun(evaluate_at_zero=False)):
        drawn = run_stages([Stage(clipped, model, solver=solver)], {"row": torch.zeros(COUNT)}, 4).state
        assert bool(drawn.isfinite().all())
    # far from its bounds clipping changes nothing, whatever the solver
    wide = Gaussian(LinearSchedule(), "velocity", (SIZE,), eta=0.0, clip_sample_range=1e3)
    for solver in (Midpoint(), Heun(evaluate_at_zero=False)):
        ends = [
            run_stages([Stage(p, model, solver=solver)], {}, 8, state=0.1 * state.double()).state for p in (free, wide)
        ]
        assert torch.allclose(*ends, atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"eta": -0.1}, r"`eta` is -0\.1; it must be at least 0 and finite"),
        ({"eta": float("nan")}, "`eta` is nan"),
        ({"eta": float("inf")}, "`eta` is inf"),
        ({"eta_above": 1.5}, r"`eta_above` is 1\.5; it must be a level, from 0 to 1"),
        ({"eta_above": -0.1}, r"`eta_above` is -0\.1; it must be a level, from 0 to 1"),
        ({"eta_above": float("nan")}, "`eta_above` is nan"),
        ({"warp": 0.0}, "`warp` is 0; it must be positive"),
        ({"warp": float("inf")}, "`warp` is inf"),
        ({"one_hot_scale": -2.0}, "`one_hot_scale` is -2; it must be positive"),
        ({"snr_weight_clamp": (5.0, 1.0)}, r"`snr_weight_clamp` is \[5\.0, 1\.0\]; it must be two finite bounds"),
        ({"snr_weight_clamp": (-1.0, 1.0)}, r"`snr_weight_clamp` is"),
        ({"snr_weight_clamp": (0.1, float("inf"))}, r"`snr_weight_clamp` is"),
        ({"clip_sample_range": 0.0}, "`clip_sample_range` is 0; it must be positive"),
        ({"prediction_type": "epsilon"}, "`prediction_type` is 'epsilon'; it must be one of eps, x0, v, velocity"),
    ],
    ids=str,
)
def test_bad_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(GraftError, match=words) as error:
        Gaussian(CosineSchedule(), **{"prediction_type": "v", "shape": (2,), **settings})
    assert "\n" not in str(error.value)


def test_bad_mixed_settings() -> None:
    field = Gaussian(CosineSchedule(), "v", (2,))
    for fields, weights, words in (
        ({}, None, "`fields` is {}"),
        ({"x": field}, {"h": 0.5}, "`weights` is 'of h'; it must name fields only, x|`weights` names h"),
        ({"x": field}, {"x": -1.0}, r"`weights\.x` is -1; it must be finite and at least 0"),
        ({"x": field}, {"x": float("nan")}, r"`weights\.x` is nan"),
    ):
        with pytest.raises(GraftError, match=words):
            MultiFieldProcess(dict(fields), weights)
