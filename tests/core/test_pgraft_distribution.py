"""P-GRAFT in closed form: an affine network fitted to accepted states samples the accepted distribution at u* and at 0.

The data are N(m, S) and acceptance is exp(w·x − x·Qx / 2), so accepted samples are N(m*, S*) with
S* = (S⁻¹ + Q)⁻¹, m* = S* (S⁻¹ m + w); linear rewards have Q = 0. An affine network is the exact denoiser of a Gaussian,
its least squares need only two moments, and batches with exactly those moments (`whitened`) leave nothing to chance.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from exact import (
    Affine,
    Exact,
    Mixture,
    Moments,
    extrapolate,
    f64,
    fit_affine,
    gap,
    noise_is,
    normal,
    propagate,
    root,
    rows,
    say,
    whitened,
)
from scipy.integrate import solve_ivp
from torch import Tensor

from graft.accept import ExponentialTilt
from graft.core.interval import Interval
from graft.process import CosineSchedule, Gaussian, LinearSchedule, MultiFieldProcess, PolynomialSchedule, Schedule
from graft.sampler import Stage, run_stages

DATA = normal(f64([0.6, -0.4]), f64([[0.8, 0.3], [0.3, 0.5]]))
LINEAR = f64([0.9, 0.5]), torch.zeros(2, 2, dtype=torch.float64)
QUADRATIC = f64([0.9, 0.5]), f64([[1.0, -0.3], [-0.3, 0.6]])
HANDOVER = 0.5


def accepted(tilt: tuple[Tensor, Tensor]) -> Mixture:
    w, q = tilt
    precision = torch.linalg.inv(DATA.covs[0])
    cov = torch.linalg.inv(precision + q)
    return normal(cov @ (precision @ DATA.means[0] + w), cov)


@dataclass
class Rollouts:
    """Accepted rollouts of infinitely many, so to speak: their x_0, their recorded x_{u*} and training noise."""

    x0: Tensor
    middle: Tensor
    noise: Tensor
    distribution: Moments  # of x_{u*}, in closed form


def rollouts(process: Gaussian, tilt: tuple[Tensor, Tensor], handover: float = HANDOVER) -> Rollouts:
    """An ODE suffix maps x_{u*} to x_0, so the record is the preimage; else x_{u*} | x_0 is the forward kernel."""
    z = whitened(64, 6)
    distribution = accepted(tilt)
    mean, cov = distribution.moments()
    x0 = mean + z[:, :2] @ root(cov).mT
    alpha, sigma = (float(c) for c in process.alpha_sigma(handover))
    if process.stochastic:
        return Rollouts(x0, alpha * x0 + sigma * z[:, 2:4], z[:, 4:], distribution.noised(alpha, sigma).moments())
    upward = ode_map(process, handover)
    start, centre = DATA.means[0], alpha * DATA.means[0]
    middle = centre + (x0 - start) @ upward.mT
    return Rollouts(x0, middle, z[:, 4:], (centre + upward @ (mean - start), upward @ cov @ upward.mT))


def ode_map(process: Gaussian, level: float) -> Tensor:
    """The ODE of N(m, S) takes x_0 − m to x_u − alpha m by S_u^{1/2} S^{-1/2} (they commute)."""
    return root(DATA.at(process, level).covs[0]) @ torch.linalg.inv(root(DATA.covs[0]))


CASES: list[tuple[Schedule, str, float, str]] = [
    (LinearSchedule(), "velocity", 0.0, "a"),
    (LinearSchedule(), "x0", 0.0, "a"),
    (CosineSchedule(), "v", 0.0, "a"),
    (PolynomialSchedule(offset=1e-10), "eps", 0.0, "a"),
    (LinearSchedule(), "velocity", 1.0, "a"),
    (CosineSchedule(), "v", 1.0, "a"),
    (PolynomialSchedule(offset=1e-10), "eps", 1.0, "a"),
    (LinearSchedule(), "x0", 1.0, "a"),
    (LinearSchedule(), "velocity", 1.0, "b"),
    (CosineSchedule(), "v", 1.0, "b"),
    (PolynomialSchedule(offset=1e-10), "eps", 1.0, "b"),
    (CosineSchedule(), "v", 1.4, "a"),  # more noise above the handover, ancestral below it
    (CosineSchedule(), "v", 1.4, "b"),
    (LinearSchedule(), "x0", 1.4, "b"),
]


def ids(case: object) -> "str | None":
    return type(case).__name__ if isinstance(case, Schedule) else None


def prior(process: Gaussian) -> Moments:
    sigma = float(process.alpha_sigma(1.0)[1])
    return torch.zeros(2, dtype=torch.float64), sigma**2 * torch.eye(2, dtype=torch.float64)


def tuned(process: Gaussian, made: Rollouts, target: str, steps: int, handover: float = HANDOVER) -> Affine:
    return fit_affine(process, made.middle, made.noise, steps, handover, made.x0 if target == "b" else None)


@pytest.mark.parametrize("tilt", [LINEAR, QUADRATIC], ids=["linear", "quadratic"])
@pytest.mark.parametrize("warp", [1.0, 2.0])
@pytest.mark.parametrize(("schedule", "prediction", "eta", "target"), CASES, ids=ids)
def test_distribution_at_the_handover(
    schedule: Schedule, prediction: str, eta: float, target: str, warp: float, tilt: tuple[Tensor, Tensor]
) -> None:
    """From 1 to u* the fitted network has the distribution of accepted x_{u*}; the reference completes it correctly."""
    clip = 1e6 if prediction == "eps" else None  # never reached, but needed at levels with little signal
    above = HANDOVER if eta > 1 else 0.0
    process = Gaussian(schedule, prediction, (2,), eta=eta, warp=warp, clip_sample_range=clip, eta_above=above)
    made = rollouts(process, tilt)
    before = DATA.at(process, HANDOVER).moments()
    assert gap(made.distribution, before) > 0.1  # there is something to learn
    middles, ends = [], []
    for steps in (60, 120):
        middles.append(propagate(process, tuned(process, made, target, steps), prior(process), steps, 1.0, HANDOVER))
        ends.append(propagate(process, Exact(process, DATA), middles[-1], steps, HANDOVER))
    assert gap(middles[1], made.distribution) < 0.04
    assert gap(middles[1], made.distribution) < 0.62 * gap(middles[0], made.distribution)
    assert gap(extrapolate(*middles), made.distribution) < 4e-3
    # u* → 0 with the reference: an ODE leads back to the accepted distribution itself, a stochastic suffix to the part
    # that x_{u*} has decided
    final = accepted(tilt).moments() if eta == 0 else reverse(process, made.distribution)
    assert gap(extrapolate(*ends), final) < 6e-3


def reverse(process: Gaussian, distribution: Moments) -> Moments:
    """The distribution of x_0 where x_{u*} has ``distribution`` and x_0 | x_{u*} is the reference's posterior."""
    alpha, _ = process.alpha_sigma(HANDOVER)
    top, cov = DATA.at(process, HANDOVER).moments()
    gain = alpha * DATA.covs[0] @ torch.linalg.inv(cov)
    left = DATA.covs[0] - gain @ cov @ gain.mT
    return DATA.means[0] + gain @ (distribution[0] - top), gain @ distribution[1] @ gain.mT + left


def test_surviving_share_of_a_stochastic_suffix() -> None:
    """In one dimension the surviving share of a linear reward's gain is rho²(u*) = alpha² S / S_u."""
    process = Gaussian(CosineSchedule(), "v", (2,), eta=1.0)
    made = rollouts(process, LINEAR)
    alpha, sigma = (float(c) for c in process.alpha_sigma(HANDOVER))
    size, axes = torch.linalg.eigh(DATA.covs[0])
    gain = axes.mT @ (accepted(LINEAR).means[0] - DATA.means[0])
    left = axes.mT @ (reverse(process, made.distribution)[0] - DATA.means[0])
    assert torch.allclose(left / gain, alpha**2 * size / (alpha**2 * size + sigma**2))


@pytest.mark.parametrize("handover", [0.0, 0.25, 0.75])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_other_handovers(handover: float, eta: float) -> None:
    """u* = 0 is GRAFT: the accepted distribution itself."""
    process = Gaussian(CosineSchedule(), "v", (2,), eta=eta)
    made = rollouts(process, QUADRATIC, handover)
    distributions = []
    for steps in (60, 120):
        model = tuned(process, made, "a", steps, handover)
        distributions.append(propagate(process, model, prior(process), steps, 1.0, handover))
    assert gap(extrapolate(*distributions), made.distribution) < 8e-3
    assert gap(made.distribution, DATA.at(process, handover).moments()) > 0.05


@pytest.mark.parametrize("tilt", [LINEAR, QUADRATIC], ids=["linear", "quadratic"])
@pytest.mark.parametrize(("schedule", "prediction"), [(LinearSchedule(), "velocity"), (CosineSchedule(), "v")], ids=ids)
def test_target_b_is_biased_under_an_ode(schedule: Schedule, prediction: str, tilt: tuple[Tensor, Tensor]) -> None:
    """x_{u*} is then a function of x_0 and not its noised version: the regression on x_0 is another, known one."""
    process = Gaussian(schedule, prediction, (2,), eta=0.0)
    made = rollouts(process, tilt)
    distributions = []
    for steps in (60, 120):
        model = tuned(process, made, "b", steps)
        distributions.append(propagate(process, model, prior(process), steps, 1.0, HANDOVER))
    found = extrapolate(*distributions)
    assert gap(found, biased_limit(process, tilt)) < 6e-3
    assert gap(found, made.distribution) > 0.05


@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("schedule", "prediction"), [(LinearSchedule(), "velocity"), (CosineSchedule(), "v")], ids=ids)
def test_tweedie_target_is_biased(schedule: Schedule, prediction: str, eta: float) -> None:
    """Regression on the reference's E[x_0 | x_{u*}] leaves out (sigma²/alpha) ∇ log P(accept | x_{u*}) at every level.

    That is sigma²/alpha Mᵀ w for a linear reward, M the slope of E[x_0 | x_{u*}], or of the ODE from there to x_0.
    """
    process = Gaussian(schedule, prediction, (2,), eta=eta)
    made, reference = rollouts(process, LINEAR), Exact(process, DATA)
    alpha, sigma = process.alpha_sigma(HANDOVER)
    posterior = alpha * DATA.covs[0] @ torch.linalg.inv(DATA.at(process, HANDOVER).covs[0])
    slope = posterior if eta == 1 else torch.linalg.inv(ode_map(process, HANDOVER))
    left_out = sigma**2 / alpha * (slope.mT @ LINEAR[0])
    count = len(made.middle)
    guess = process.x0(process(reference, made.middle, HANDOVER, rows(count)), made.middle, HANDOVER)
    x = torch.randn(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    distributions: dict[str, list[Moments]] = {"right": [], "tweedie": []}
    for steps in (60, 120):
        models = {
            "right": tuned(process, made, "a", steps),
            "tweedie": fit_affine(process, made.middle, made.noise, steps, HANDOVER, guess),
        }
        for name, model in models.items():
            distributions[name].append(propagate(process, model, prior(process), steps, 1.0, HANDOVER))
        for index in models["right"].parameters:
            u = index / steps
            right, wrong = (process.x0(process(model, x, u, rows(8)), x, u) for model in models.values())
            assert torch.allclose(right - wrong, left_out.expand(8, 2), atol=1e-6)
    start = DATA.at(process, HANDOVER).means[0]
    gain = {name: float(LINEAR[0] @ (extrapolate(*pair)[0] - start)) for name, pair in distributions.items()}
    full = float(LINEAR[0] @ (made.distribution[0] - start))
    assert gain["right"] == pytest.approx(full, abs=0.01)
    assert gain["tweedie"] / full == pytest.approx(0.30 if eta == 1 else 0.37, abs=0.01)


def test_noise_of_the_targets() -> None:
    """The least-squares residual of (a), with its weight, is 1 + sigma_s² / (alpha_s² S) times that of (b)."""
    for schedule, prediction, handover in [(LinearSchedule(), "velocity", 0.25), (CosineSchedule(), "v", 0.5)]:
        process = Gaussian(schedule, prediction, (1,))
        alpha, sigma = (float(c) for c in process.alpha_sigma(handover))
        z = whitened(64, 3)
        x0 = 0.4 + 0.7**0.5 * z[:, :1]
        middle, noise = alpha * x0 + sigma * z[:, 1:2], z[:, 2:]
        left = []
        for target in (None, x0):
            model = fit_affine(process, middle, noise, 20, handover, target)
            with noise_is(process, noise):
                levels = [torch.full((64,), index / 20, dtype=torch.float64) for index in model.parameters]
                left.append(torch.stack([process.loss(model, middle, u, handover, rows(64), target) for u in levels]))
        ratio = left[0].mean(1) / left[1].mean(1)
        assert torch.allclose(ratio, torch.full_like(ratio, 1 + sigma**2 / (alpha**2 * 0.7)), rtol=1e-6)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_renoised_target_has_the_noised_distribution_of_what_was_accepted(eta: float) -> None:
    """For a stochastic sampler it is the distribution of the recorded states; for an ODE it is another one."""
    process = Gaussian(CosineSchedule(), "v", (2,), eta=eta)
    made = rollouts(process, QUADRATIC)
    noised = accepted(QUADRATIC).noised(*(float(c) for c in process.alpha_sigma(HANDOVER))).moments()
    distributions = []
    for steps in (60, 120):
        model = fit_affine(process, made.x0, made.noise, steps, 0.0)
        distributions.append(propagate(process, model, prior(process), steps, 1.0, HANDOVER))
    assert gap(extrapolate(*distributions), noised) < 6e-3
    assert (gap(noised, made.distribution) < 1e-9) == (eta == 1)
    assert eta == 1 or gap(noised, made.distribution) > 0.05


def biased_limit(process: Gaussian, tilt: tuple[Tensor, Tensor]) -> Moments:
    """Return mean and covariance at u* of the ODE with the least-squares fit of x_0 on x_u, by scipy."""
    mean0, cov0 = (t.numpy() for t in accepted(tilt).moments())
    upward = ode_map(process, HANDOVER).numpy()
    made = rollouts(process, tilt)
    mean_s, cov_s = (t.numpy() for t in made.distribution)
    with_x0 = cov0 @ upward.T  # Cov(x_0, x_{u*})

    def slope(u: float, y: np.ndarray) -> np.ndarray:
        """D x = (x − alpha x̂_0) sigma' / sigma + alpha' x̂_0."""
        ratio, sigma_us = (float(c) for c in process.kernel(u, HANDOVER))
        alpha, sigma = (float(c) for c in process.alpha_sigma(u))
        h = 1e-6
        (low_a, low_s), (high_a, high_s) = ((float(c) for c in process.alpha_sigma(v)) for v in (u - h, u))
        d_alpha, d_sigma = (high_a - low_a) / h, (high_s - low_s) / h
        matrix = ratio * with_x0 @ np.linalg.inv(ratio**2 * cov_s + sigma_us**2 * np.eye(2))
        offset = mean0 - matrix @ (ratio * mean_s)
        pull = d_alpha - alpha * d_sigma / sigma
        drift = d_sigma / sigma * np.eye(2) + pull * matrix
        mean, cov = y[:2], y[2:].reshape(2, 2)
        return np.concatenate([drift @ mean + pull * offset, (drift @ cov + cov @ drift.T).ravel()])

    start = np.concatenate([np.zeros(2), np.eye(2).ravel()])
    y = solve_ivp(slope, (1.0, HANDOVER), start, rtol=1e-8, atol=1e-10).y[:, -1]
    return torch.from_numpy(y[:2]), torch.from_numpy(y[2:]).reshape(2, 2)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_end_to_end_by_sampling(eta: float) -> None:
    """Rollouts, acceptance with `ExponentialTilt`, least squares on the recorded states, hand-over with two stages."""
    process = Gaussian(CosineSchedule(), "v", (2,), eta=eta)
    reference, steps, count = Exact(process, DATA), 40, 40_000
    seed = torch.Generator().manual_seed(0)
    drawn = run_stages([Stage(process, reference)], rows(count), steps, record=[HANDOVER], generator=seed)
    rewards = (drawn.state @ LINEAR[0]).clamp(max=4.5)  # bounded, 4 standard deviations up
    taken = ExponentialTilt(temperature=2.0, reward_bound=4.5)(rewards, generator=seed).index
    assert 5000 < len(taken) < 8000
    middle = drawn.states[HANDOVER][taken]
    # every accepted state with two noises and their mirror images
    half = torch.randn(2 * len(taken), 2, dtype=torch.float64, generator=seed)
    model = fit_affine(process, middle.repeat(4, 1), torch.cat([half, -half]), steps, HANDOVER)
    above = propagate(process, model, prior(process), steps, 1.0, HANDOVER)
    found = middle.mean(0), torch.cov(middle.T)
    tilt = LINEAR[0] / 2, LINEAR[1]
    right = rollouts(process, tilt).distribution
    # standard errors for 6000 accepted: 0.012 (mean), 0.015 (variance); five numbers beyond 4.5: 3e-5 of seeds
    assert gap(found, right) < 0.07
    assert gap(above, found) < 0.04  # the fit adds its noise and the steps their error
    assert gap(above, right) < 0.09
    assert float((right[0] - DATA.at(process, HANDOVER).means[0]).abs().max()) > 0.3
    both = [Stage(process, model, Interval(low=HANDOVER)), Stage(process, reference, Interval(high=HANDOVER))]
    final = run_stages(both, rows(20_000), steps, generator=seed)
    end = accepted(tilt).moments() if eta == 0 else reverse(process, right)
    assert gap((final.state.mean(0), torch.cov(final.state.T)), end) < 0.12
    assert final.denoiser_calls == steps


# ---- the loss itself


@pytest.mark.parametrize("from_level", [0.0, 0.25, 0.6])
@pytest.mark.parametrize(
    ("schedule", "prediction"),
    [
        (LinearSchedule(), "velocity"),
        (LinearSchedule(), "v"),
        (LinearSchedule(), "x0"),
        (CosineSchedule(), "v"),
        (PolynomialSchedule(), "eps"),
        (PolynomialSchedule(), "x0"),
        (PolynomialSchedule(), "velocity"),
    ],
    ids=ids,
)
@pytest.mark.parametrize("weight", [None, (0.05, 1.5)])
def test_minimum_of_the_loss(
    schedule: Schedule, prediction: str, from_level: float, weight: "tuple[float, float] | None"
) -> None:
    """Target (a)'s least-squares network is the exact denoiser of the states at ``from_level``, at every level."""
    process = Gaussian(schedule, prediction, (2,), snr_weight_clamp=weight)
    distribution = normal(f64([0.4, -0.7]), f64([[0.9, 0.2], [0.2, 0.3]]))  # at level since, whatever made it
    z = whitened(64, 4)
    state = distribution.means[0] + z[:, :2] @ root(distribution.covs[0]).mT
    model = fit_affine(process, state, z[:, 2:], 20, from_level)
    x = torch.randn(16, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for index in model.parameters:
        level = index / 20
        ratio, sigma_us = process.kernel(level, from_level)
        alpha, sigma = process.alpha_sigma(level)
        noised = distribution.noised(float(ratio), float(sigma_us))
        score = -torch.linalg.solve(noised.covs[0], (x - noised.means[0]).mT).mT
        if float(alpha) > 0:
            x0 = (x + sigma**2 * score) / alpha  # Tweedie's formula
        else:
            x0 = (distribution.means[0] / process.alpha_sigma(from_level)[0]).expand_as(x)
        right = say(prediction, x, x0, alpha, sigma)
        time = process.timestep(level).float().expand(16)
        assert torch.allclose(model(x, time, {}), right, rtol=1e-5, atol=1e-5)


def quadrature(distribution: Mixture, order: int = 40) -> tuple[Tensor, Tensor, Tensor]:
    """(state, noise, weight): sums over them are expectations over a mixture's samples and a standard normal."""
    node, share = np.polynomial.hermite_e.hermegauss(order)
    z, p = torch.from_numpy(node), torch.from_numpy(share / share.sum())
    state = (distribution.means + distribution.covs[:, :, 0].sqrt() * z).reshape(-1, 1)  # (k order, 1)
    weight = (distribution.weights[:, None] * p).reshape(-1)
    return (
        state.repeat_interleave(order, 0),
        z.repeat(len(state))[:, None],
        (weight[:, None] * p).reshape(-1),
    )


@pytest.mark.parametrize("number", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("from_level", [0.0, 0.3])
@pytest.mark.parametrize(
    ("schedule", "prediction"),
    [(LinearSchedule(), "velocity"), (PolynomialSchedule(), "eps"), (CosineSchedule(), "x0")],
    ids=ids,
)
def test_gradient_vanishes_at_the_exact_denoiser_of_a_mixture(
    schedule: Schedule, prediction: str, from_level: float, number: float
) -> None:
    """The expected loss of target (a) is stationary in any direction at Tweedie's estimate for the states at since."""
    distribution = Mixture(f64([0.4, 0.6]), f64([[-1.0], [0.8]]), f64([[[0.2]], [[0.3]]]))
    process = Gaussian(schedule, prediction, (1,))
    state, noise, weight = quadrature(distribution)
    count = len(state)
    ratio, sigma_us = process.kernel(number, from_level)
    alpha, sigma = process.alpha_sigma(number)
    directions = (torch.ones_like, torch.sin, torch.tanh, lambda x: torch.cos(2 * x))
    slopes = torch.zeros(len(directions), dtype=torch.float64, requires_grad=True)

    def model(x: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        if float(alpha) < 1e-12:
            x0 = (distribution.moments()[0] / process.alpha_sigma(from_level)[0]).expand_as(x)
        else:
            # Tweedie: the score of ratio x_s + sigma_us noise is (ratio E[x_s | x] − x) / sigma_us²
            mean = distribution.posterior(x, ratio.expand(count), sigma_us.expand(count))[1]
            x0 = (x + sigma**2 * (ratio * mean - x) / sigma_us**2) / alpha
        wrong = sum(s * d(x) for s, d in zip(slopes, directions, strict=True))
        return say(prediction, x, x0, alpha, sigma) + wrong

    def expected() -> Tensor:
        level = torch.full((count,), number, dtype=torch.float64)
        with noise_is(process, noise):
            return (weight * process.loss(model, state, level, from_level, rows(count))).sum()

    least = expected()
    (slope,) = torch.autograd.grad(least, slopes)
    assert slope.abs().max() < 1e-6 * max(1.0, float(least.detach()))
    with torch.no_grad():  # and it is the least there is
        for i in range(len(slopes)):
            for step in (0.1, -0.1):
                slopes.zero_()[i] = step
                assert expected() > least


@pytest.mark.parametrize(
    ("schedule", "prediction"),
    [
        (LinearSchedule(), "velocity"),
        (LinearSchedule(), "x0"),
        (LinearSchedule(), "v"),
        (CosineSchedule(), "v"),
        (PolynomialSchedule(), "eps"),
        (CosineSchedule(), "logits"),
    ],
    ids=ids,
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_is_finite_to_the_ends(schedule: Schedule, prediction: str, dtype: torch.dtype) -> None:
    """At level 1, where alpha is 0, and down to the level of the state itself."""
    process = Gaussian(schedule, prediction, (4, 2))
    state = torch.randn(6, 4, 2, generator=torch.Generator().manual_seed(0)).to(dtype)
    weight = torch.full((1,), 0.5, dtype=dtype, requires_grad=True)

    def model(x: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        return weight * x

    for from_level in (0.5, 0.02):
        level = f64([from_level, from_level + 1e-9, from_level + 1e-5, from_level + 1e-2, 0.999, 1.0])
        for target in (None, state):
            loss = process.loss(model, state, level, from_level, rows(6), target, torch.Generator().manual_seed(0))
            assert loss.shape == (6,) and loss.isfinite().all()
            assert loss.max() < 1e5
            (slope,) = torch.autograd.grad(loss.sum(), weight)
            assert slope.isfinite().all()
    data = process.loss(lambda x, t, c: x, state, f64([1e-4, 1e-3, 0.1, 0.5, 0.9, 1.0]), 0.0, rows(6))
    assert data.isfinite().all() and data.max() < 1e3


@pytest.mark.parametrize("target", ["since 0", "b"])
def test_cross_entropy_is_least_at_the_posterior(target: str) -> None:
    """Logits affine in the state, fitted by Newton to the expected cross-entropy, are the exact posterior's."""
    scale, share = 1.5, f64([0.3, 0.7])
    process = Gaussian(CosineSchedule(), "logits", (1, 2), one_hot_scale=scale)
    from_level = 0.0 if target == "since 0" else 0.25
    order = 24
    node, p = np.polynomial.hermite_e.hermegauss(order)
    z = torch.cartesian_prod(*[torch.from_numpy(node)] * 2)
    pz = torch.cartesian_prod(*[torch.from_numpy(p / p.sum())] * 2).prod(1)
    clean = scale * torch.eye(2, dtype=torch.float64).repeat_interleave(order**2, 0)[:, None]
    noise, weight = z.repeat(2, 1)[:, None], (share[:, None] * pz).reshape(-1)
    number = 0.6
    alpha, sigma = (float(c) for c in process.alpha_sigma(number))
    count = len(clean)
    if target == "b":
        # the noised x_from and the noise since then, such that together they are the noise of the quadrature
        sigma_us = float(process.kernel(number, from_level)[1])
        state = process.alpha_sigma(from_level)[0] * clean
        noise = sigma / sigma_us * noise
    else:
        state = clean
    flat = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # offset and slope of logit_1 − logit_0
    level = torch.full((count,), number, dtype=torch.float64)

    def expected(flat: Tensor) -> Tensor:
        def model(x: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
            return torch.stack([torch.zeros_like(x[..., 0]), flat[0] + flat[1] * (x[..., 1] - x[..., 0])], -1)

        with noise_is(process, noise):
            goal = None if target == "since 0" else clean
            return (weight * process.loss(model, state, level, from_level, rows(count), goal)).sum()

    for _ in range(12):
        (slope,) = torch.autograd.grad(expected(flat), flat, create_graph=True)
        curvature = torch.stack([torch.autograd.grad(s, flat, retain_graph=True)[0] for s in slope])
        flat = (flat - torch.linalg.solve(curvature, slope)).detach().requires_grad_()
    right = f64([float((share[1] / share[0]).log()), alpha * scale / sigma**2])
    assert torch.allclose(flat, right, rtol=1e-6)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "velocity"])
def test_unweighted_loss_is_the_predictions_own_error(prediction: str) -> None:
    """On data and without ``weight`` it is |output − output of a perfect network for this noise|²."""
    process = Gaussian(PolynomialSchedule(), prediction, (3,))
    state = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    level = f64([0.1, 0.4, 0.8, 1.0])
    alpha, sigma = (c[:, None] for c in process.alpha_sigma(level))
    noisy = alpha * state + sigma * noise
    goal = say(prediction, noisy, state, alpha, sigma)
    with noise_is(process, noise):
        loss = process.loss(lambda x, t, c: 0.4 * x, state, level, 0.0, rows(4))
        assert torch.allclose(loss, (0.4 * noisy - goal).square().mean(1))
        clipped = Gaussian(PolynomialSchedule(), prediction, (3,), snr_weight_clamp=(0.5, 5.0))
        with noise_is(clipped, noise):
            loss = clipped.loss(lambda x, t, c: 0.4 * x, state, level, 0.0, rows(4))
        estimate = process.x0(0.4 * noisy, noisy, level)
        snr = ((alpha / sigma) ** 2)[:, 0].clamp(0.5, 5.0)
        assert torch.allclose(loss, snr * (estimate - state).square().mean(1))


def test_loss_of_a_mixed_state() -> None:
    """The weighted sum of the fields' losses, of either target."""
    fields = {"x": Gaussian(LinearSchedule(), "velocity", (2,)), "h": Gaussian(CosineSchedule(), "v", (3,))}
    process = MultiFieldProcess(dict(fields), weights={"h": 0.25})
    seed = torch.Generator().manual_seed(0)
    state, noise, target = (
        {n: torch.randn(4, *p.shape, dtype=torch.float64, generator=seed) for n, p in fields.items()} for _ in range(3)
    )
    level = f64([0.5, 0.6, 0.8, 1.0])
    for goal in (None, target):
        with noise_is(fields["x"], noise["x"]), noise_is(fields["h"], noise["h"]):
            whole = process.loss(lambda s, t, c: s, state, level, 0.4, rows(4), goal)
            x, h = (
                p.loss(lambda s, t, c: s, state[n], level, 0.4, rows(4), None if goal is None else goal[n])
                for n, p in fields.items()
            )
        assert torch.allclose(whole, x + 0.25 * h)


def test_targets_agree_at_data() -> None:
    process = Gaussian(LinearSchedule(), "velocity", (3,))
    state = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    level = f64([0.1, 0.3, 0.5, 0.9, 1.0])
    one, other = (
        process.loss(lambda x, t, c: 0.3 * x, state, level, 0.0, rows(5), target, torch.Generator().manual_seed(1))
        for target in (None, state)
    )
    assert torch.allclose(one, other)
    # velocity's own error: |0.3 x_u − (eps − x_0)|², averaged over the field
    eps = process.noise(state, None, torch.Generator().manual_seed(1))
    noisy = (1 - level)[:, None] * state + level[:, None] * eps
    assert torch.allclose(one, (0.3 * noisy - (eps - state)).square().mean(1))
