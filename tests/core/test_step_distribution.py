"""The distribution of one reverse step: log-probability, divergence, and the estimate of an output."""

import pytest
import torch
from exact import f64, rows, say
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from graft import GraftError
from graft.process import (
    CosineSchedule,
    Gaussian,
    LinearSchedule,
    MaskProjection,
    MultiFieldProcess,
    NoisyExample,
    PolynomialSchedule,
    Process,
    ZeroCenterOfMass,
)

MASK = {"mask": f64([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]])}


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def field(name: str, eta: float = 0.7) -> Gaussian:
    return {
        "x": Gaussian(CosineSchedule(), "x0", (4, 3), eta=eta, projection=ZeroCenterOfMass()),
        "h": Gaussian(
            PolynomialSchedule(), "logits", (4, 5), eta=eta, warp=2, one_hot_scale=2.0, projection=MaskProjection()
        ),
    }[name]


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize(
    ("schedule", "prediction"),
    [(LinearSchedule(), "velocity"), (CosineSchedule(), "v"), (PolynomialSchedule(), "eps"), (CosineSchedule(), "x0")],
)
@pytest.mark.parametrize("each", [False, True])
def test_step_is_the_normal_distribution_that_torch_has(schedule, prediction: str, eta: float, each: bool) -> None:
    """Mean and deviation from what `advance` makes of many noises; then log-probability and divergence as torch's."""
    process = Gaussian(schedule, prediction, (2,), eta=eta)
    level, following = (f64([0.9, 0.5, 0.3]), f64([0.7, 0.4, 0.1])) if each else (0.6, 0.4)
    state, output, other, reached = (numbers(3, 2, seed=i) for i in range(4))
    mean, deviation = [], []
    for i in range(3):
        u, v = (float(torch.as_tensor(w).expand(3)[i]) for w in (level, following))
        drawn = process.denoise_step(
            output[i].expand(4000, 2), state[i].expand(4000, 2), u, v, rows(4000), torch.Generator().manual_seed(i)
        )
        noise = torch.randn(4000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(i))
        spread = (drawn[0] - drawn[1]) / (noise[0] - noise[1])
        assert torch.allclose(drawn, drawn[0] + spread * (noise - noise[0]))
        deviation.append(spread)
        mean.append(drawn[0] - spread * noise[0])
    distribution = Independent(Normal(torch.stack(mean), torch.stack(deviation)), 1)
    found = process.log_prob(output, state, reached, level, following, rows(3))
    assert torch.allclose(found, distribution.log_prob(reached))
    theirs, c = process.transition(other, state, level, following, rows(3))
    wanted = kl_divergence(distribution, Independent(Normal(theirs, c.expand(theirs.shape)), 1))
    assert torch.allclose(process.step_kl(output, other, state, level, following, rows(3)), wanted)


def test_density_integrates_to_one() -> None:
    process = Gaussian(LinearSchedule(), "velocity", (1,), eta=1.0)
    x = torch.linspace(-8, 8, 20_001, dtype=torch.float64)[:, None]
    state, output = torch.full_like(x, 0.4), torch.full_like(x, -0.3)
    density = process.log_prob(output, state, x, 0.5, 0.25, rows(len(x))).exp()
    assert float(torch.trapezoid(density, x[:, 0])) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("name", ["x", "h"])
def test_density_on_the_subspace(name: str) -> None:
    """In an orthonormal basis of the subspace it is a normal distribution of the subspace's dimension."""
    process = field(name)
    condition = MASK
    shape = (3, *process.shape)
    state, output = process.noise(numbers(*shape), condition, None), numbers(*shape, seed=1)
    reached = process.denoise_step(output, state, 0.5, 0.25, condition, torch.Generator().manual_seed(0))
    found = process.log_prob(output, state, reached, 0.5, 0.25, condition)
    mean, c = process.transition(output, state, 0.5, 0.25, condition)
    for i in range(3):
        one = {"mask": condition["mask"][i : i + 1]}
        eye = torch.eye(state[0].numel(), dtype=torch.float64).reshape(-1, *process.shape)
        matrix = torch.cat([process._project(e[None], one).flatten(1) for e in eye])
        size, axes = torch.linalg.eigh(matrix)
        basis = axes[:, size > 0.5]
        assert basis.shape[1] == float(process.projection.dimension(state[i : i + 1], one))
        distribution = Independent(Normal(mean[i].flatten() @ basis, c.expand(basis.shape[1])), 1)
        assert float(found[i]) == pytest.approx(float(distribution.log_prob(reached[i].flatten() @ basis)))


def test_mixed_is_the_sum_over_the_fields() -> None:
    fields: dict[str, Process] = {name: field(name) for name in ("x", "h")}
    process = MultiFieldProcess(fields, {"x": 1.0, "h": 0.05})
    state, output, other, reached = (
        {name: numbers(3, *p.shape, seed=i) for name, p in fields.items()} for i in range(4)
    )
    place = f64([0.9, 0.5, 0.3]), f64([0.7, 0.4, 0.1]), MASK
    for method, given in (("log_prob", (output, state, reached)), ("step_kl", (output, other, state))):
        parts = [getattr(p, method)(*(g[name] for g in given), *place) for name, p in fields.items()]
        assert torch.allclose(getattr(process, method)(*given, *place), sum(parts))
    level = place[0]
    guess = process.predict_x0(output, state, level, MASK)
    assert all(torch.equal(guess[n], p.x0(output[n], state[n], level, MASK)) for n, p in fields.items())
    mixed, right = process.loss_output(output, state, level, MASK), process.loss_target(reached, other, level)
    for n, p in fields.items():
        assert torch.equal(mixed[n], p.loss_output(output[n], state[n], level, MASK))
        assert torch.equal(right[n], p.loss_target(reached[n], other[n], level))
    apart = [w * fields[n].x0_error(mixed[n], right[n], level) for n, w in (("x", 1.0), ("h", 0.05))]
    assert torch.allclose(process.x0_error(mixed, right, level), sum(apart))


@pytest.mark.parametrize("weight", [None, (0.1, 5.0)])
@pytest.mark.parametrize("prediction", ["x0", "v", "velocity", "eps"])
def test_distance_is_the_denoising_error(prediction: str, weight: "tuple[float, float] | None") -> None:
    """The distance is that of data, and at the process's own weight the squared error of the prediction."""
    process = Gaussian(PolynomialSchedule(), prediction, (2,), snr_weight_clamp=weight)
    clean, noise, output, level = numbers(3, 2), numbers(3, 2, seed=1), numbers(3, 2, seed=2), f64([0.2, 0.5, 0.9])
    noisy = process.corrupt_given_noise(clean, noise, level, 0.0)
    own, goal = process.loss_output(output, noisy, level), process.loss_target(clean, noise, level)
    found = process.x0_error(own, goal, level)
    example = NoisyExample(noisy, clean, noise, level, torch.zeros(3, dtype=torch.float64))
    wanted = process.output_loss(output, example, rows(3))
    assert torch.allclose(found, wanted)
    if weight is None:
        alpha, sigma = (c[:, None] for c in process.alpha_sigma(level))
        right = say(prediction, noisy, clean, alpha, sigma)
        assert torch.allclose(found, (output - right).square().mean(1))
        assert torch.allclose(goal, right) and torch.equal(own, output)
    else:  # the bounds are those of the squared error of x_0
        alpha, sigma = process.alpha_sigma(level)
        error = (process.predict_x0(output, noisy, level) - clean).square().mean(1)
        assert torch.allclose(found, (alpha / sigma).square().clamp(*weight) * error)


def test_what_has_no_density_says_so() -> None:
    state = numbers(3, 4, 3)
    still = field("x", eta=0.0)
    assert not still.has_log_prob and field("x").has_log_prob
    mixed = MultiFieldProcess({"x": still, "h": field("h")})
    assert mixed.stochastic and not mixed.has_log_prob
    with pytest.raises(GraftError, match="eta > 0"):
        still.log_prob(state, state, state, 0.5, 0.25, MASK)
    with pytest.raises(GraftError, match="level 0"):
        field("x").log_prob(state, state, state, 0.5, 0.0, MASK)
    with pytest.raises(GraftError, match="level 0"):
        field("x").step_kl(state, state, state, f64([0.5, 0.4, 0.3]), f64([0.25, 0.0, 0.1]), MASK)
