"""Objectives in closed form: gradients, fixed points and distributions, with affine networks for trained ones."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch
from exact import Exact, Moments, extrapolate, f64, gap, noise_is, normal, propagate, root, rows, whitened
from line import Line, line, table_of
from torch import Tensor

from graft import GraftError, TrainingBatch
from graft.accept import AcceptAll, ExponentialTilt
from graft.core import seeding
from graft.core.datatypes import Chunk
from graft.objectives import AnchoredShaping, DiffusionNFT, Objective, PolicyGradient, RoundSpec, ScoredRound, Shaping
from graft.objectives.advantages import AdvantageTracker
from graft.process import CosineSchedule, Gaussian, LinearSchedule
from graft.sampler import run_stages

DATA = normal(f64([0.6, -0.4]), f64([[0.8, 0.3], [0.3, 0.5]]))
POINT = normal(f64([0.5]), f64([[0.7]]))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Policy gradient

CHAIN = Gaussian(CosineSchedule(), "x0", (1,), eta=1.0)
STEPS, LEVEL = 5, 0.2  # four noisy steps of the network, the reference does the last


def chain(objective: PolicyGradient, moved: float = 0.0) -> Line:
    """A network that is the right one of N(0.5, 0.7), moved a little."""
    table = table_of(CHAIN, STEPS, Exact(CHAIN, POINT))
    module = line(CHAIN, STEPS, table, objective, level=LEVEL)
    with torch.no_grad():
        module.policy.backbone.table += moved * torch.randn(table.shape, dtype=torch.float64, generator=generator(9))
    objective.setup(module.policy)
    return module


def moments(module: Line) -> tuple[Tensor, Tensor]:
    """Mean and variance of x_0, exactly, with their gradient in the table."""
    mean, variance = f64(0.0), f64(float(CHAIN.alpha_sigma(1.0)[1]) ** 2)
    x = f64([[0.0], [1.0]])
    for i in range(STEPS, 0, -1):
        model = module.policy.backbone if i > 1 else module.policy.reference_forward
        y, c = CHAIN.transition(CHAIN(model, x, i / STEPS, rows(2)), x, i / STEPS, (i - 1) / STEPS, rows(2))
        slope, offset = y[1, 0] - y[0, 0], y[0, 0]
        mean, variance = slope * mean + offset, slope**2 * variance + c**2
    return mean, variance


def linear(x: Tensor) -> Tensor:
    return x[:, 0]


def hill(x: Tensor) -> Tensor:
    return -((x[:, 0] - 1) ** 2)


EXPECTED: dict[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]] = {
    linear: lambda mean, variance: mean,
    hill: lambda mean, variance: -variance - (mean - 1) ** 2,
}


def drawn(module: Line, count: int, seed: int = 0) -> Chunk:
    with module.policy.eval_weights("current"):
        made = run_stages(
            module.policy.sampling_stages("tuned"),
            rows(count),
            STEPS,
            module.objective.record_levels(module.policy),
            generator(seed),
        )
    return Chunk(made.state, made.states, rows(count))


@pytest.mark.parametrize(("reward", "transitions"), [(linear, 0), (hill, 0), (hill, 1)])
def test_policy_gradient_is_unbiased(reward: Callable[[Tensor], Tensor], transitions: int) -> None:
    """The estimate of the gradient has the mean that the chain's moments give.

    Eight parameters at 4.5 standard errors of 50 batches: three false alarms in 10 000 seeds.
    """
    objective = PolicyGradient(clip_range=1e6, steps_per_sample=transitions)
    module = chain(objective, moved=0.1)
    expected = EXPECTED[reward](*moments(module))
    (wanted,) = torch.autograd.grad(expected, module.policy.backbone.table)
    found = []
    for seed in range(50):
        chunk = drawn(module, 1000, seed)
        scored = ScoredRound(chunk, reward(chunk.state), torch.arange(1000), torch.ones(1000), "current")
        examples = objective.training_batch(module.policy, scored)
        examples.weight = scored.rewards - expected.detach()
        loss, shown = objective.loss(module.policy, examples, generator(seed))
        assert shown["ratio_clipped"] == 0 and shown["old_kl"] == 0
        (slope,) = torch.autograd.grad(loss, module.policy.backbone.table)
        found.append(-(STEPS - 1) * slope)  # the loss is a mean over steps
    each = torch.stack(found).flatten(1)
    error = each.std(0) / math.sqrt(len(each))
    moving = error > 0
    assert int(moving.sum()) == 8
    assert bool((((each.mean(0) - wanted.flatten()) / error)[moving].abs() < 4.5).all())
    assert bool((wanted.flatten()[moving].abs() / error[moving] > 10).any())  # and it could have failed


def test_gradient_with_the_round_s_own_advantages() -> None:
    """Advantages of one condition divide the gradient by the deviation, and their own mean costs 1/n of it."""
    objective = PolicyGradient(clip_range=1e6, steps_per_sample=0, advantage_clip=50)
    module = chain(objective)
    mean, variance = moments(module)
    (wanted,) = torch.autograd.grad(mean / variance.detach().sqrt(), module.policy.backbone.table)
    found = torch.zeros_like(wanted)
    for seed in range(20):
        chunk = drawn(module, 5000, seed)
        none = torch.zeros(5000, dtype=torch.long)
        scored = ScoredRound(chunk, linear(chunk.state), none, torch.ones(5000), "current")
        loss, _ = objective.loss(module.policy, objective.training_batch(module.policy, scored), generator(seed))
        found -= (STEPS - 1) * torch.autograd.grad(loss, module.policy.backbone.table)[0] / 20
    assert torch.allclose(found, wanted, atol=0.03 * float(wanted.abs().max()))


def test_clipping() -> None:
    """Where the ratio has left [1 − clip, 1 + clip] in the advantage's favour, a step teaches nothing; else it does."""
    objective = PolicyGradient(clip_range=0.1, steps_per_sample=0)
    module = chain(objective)
    chunk = drawn(module, 64)
    with torch.no_grad():
        module.policy.backbone.table[1:] += 0.1
    weight = torch.where(torch.arange(64) % 2 == 0, 1.5, -0.5)
    states = torch.stack(list(chunk.recorded.values()), 1)
    levels = objective.record_levels(module.policy)
    assert levels == (1.0, 0.8, 0.6, 0.4, 0.2) == tuple(chunk.recorded)
    values, taught = [], 0
    for i in range(64):
        one = TrainingBatch(states[i : i + 1], rows(1), weight[i : i + 1])
        module.zero_grad()
        loss, shown = objective.loss(module.policy, one, generator())
        loss.backward()
        slope = module.policy.backbone.table.grad.flatten(1).abs().sum(1)
        parts, clipped = [], 0.0
        for k, (u, v) in enumerate(itertools.pairwise(levels)):
            x, y = states[i : i + 1, k], states[i : i + 1, k + 1]
            log = [
                CHAIN.log_prob(CHAIN(m, x, u, rows(1)), x, y, u, v, rows(1))
                for m in (module.policy.backbone, module.policy.reference_forward)
            ]
            ratio, a = float((log[0] - log[1]).exp().detach()), float(weight[i])
            outside = ratio > 1.1 if a > 0 else ratio < 0.9
            assert (float(slope[round(u * STEPS)]) == 0) == outside
            taught += not outside
            clipped += abs(ratio - 1) > 0.1
            parts.append(-a * (min(max(ratio, 0.9), 1.1) if outside else ratio))
        values.append(float(loss.detach()) - sum(parts) / 4)
        assert float(shown["ratio_clipped"]) == pytest.approx(clipped / 4)
    assert max(map(abs, values)) < 1e-5
    assert 40 < taught < 240


def test_penalty_is_the_divergence_from_the_reference() -> None:
    objective = PolicyGradient(kl_coef=0.3, steps_per_sample=0)
    module = chain(objective)
    chunk = drawn(module, 200)
    examples = TrainingBatch(torch.stack(list(chunk.recorded.values()), 1), rows(200), torch.zeros(200))
    assert objective.loss(module.policy, examples)[0].item() == 0
    with torch.no_grad():
        module.policy.backbone.table[1:, :, 1] += 0.05  # the offsets
    loss, shown = objective.loss(module.policy, examples)
    divergence = []
    for u, v in itertools.pairwise(chunk.recorded):
        move = f64([0.05 * CHAIN._coefficients(u, v)[1], CHAIN._coefficients(u, v)[2]])
        divergence.append(float((move[0] / move[1]) ** 2 / 2))
    assert loss.item() == pytest.approx(0.3 * sum(divergence) / 4)
    assert float(shown["reference_kl"]) == pytest.approx(loss.item() / 0.3)
    loss.backward()
    assert bool((module.policy.backbone.table.grad[2:, :, 1] > 0).all())  # back


def test_transitions_are_spread_over_the_steps() -> None:
    """In a batch every draw has the set number of steps, none twice."""
    module = chain(PolicyGradient(steps_per_sample=2))
    chunk = drawn(module, 50)
    examples = TrainingBatch(torch.stack(list(chunk.recorded.values()), 1), rows(50), torch.ones(50))
    wanted = []
    with mock.patch.object(type(CHAIN), "log_prob", lambda *a: wanted.append((a[2], a[4])) or torch.zeros(len(a[2]))):
        module.objective.loss(module.policy, examples, generator())
    state, level = wanted[0]
    assert len(state) == 100
    pairs = level.reshape(50, 2)
    assert bool((pairs[:, 0] != pairs[:, 1]).all()) and set(level.tolist()) == {1.0, 0.8, 0.6, 0.4}


def test_levels_of_a_whole_network() -> None:
    """The last step to level 0 draws no noise and has no action."""
    objective = PolicyGradient()
    assert objective.record_levels(line(CHAIN, 4, torch.zeros(5, 1, 2).double(), objective).policy) == (
        1.0,
        0.75,
        0.5,
        0.25,
    )


# Advantages


def test_advantages_are_within_the_condition() -> None:
    rewards, groups = f64([1, 2, 3, 10, 20, 30, 7]), torch.tensor([0, 0, 0, 1, 1, 1, 2])
    found = AdvantageTracker(stat_buffer_size=0, stat_min_count=2)(rewards, groups)
    assert torch.allclose(found[:6], f64([-1, 0, 1, -1, 0, 1]))
    assert float(found[6]) == pytest.approx(float((rewards[6] - rewards.mean()) / rewards.std()))  # too few of its own
    assert float(AdvantageTracker(stat_buffer_size=0, stat_min_count=1, clip=0.5)(rewards, groups).abs().max()) == 0.5
    assert torch.equal(AdvantageTracker()(f64([3, 3, 3]), torch.zeros(3).long()), f64([0, 0, 0]))


def test_advantages_look_back() -> None:
    """Advantages use a condition's last draws, and never fewer than its present ones; a checkpoint keeps them."""
    one = torch.zeros(3, dtype=torch.long)
    running = AdvantageTracker(stat_buffer_size=4, stat_min_count=2)
    first, second, third = f64([1, 2, 3]), f64([4, 5, 6]), f64([7, 8, 9, 10, 11])
    running(first, one)
    known = f64([3, 4, 5, 6])
    kept = running.get_extra_state()
    assert torch.allclose(running(second, one), (second - known.mean()) / known.std())
    again = AdvantageTracker(stat_buffer_size=4, stat_min_count=2)
    again.set_extra_state(kept)
    assert again.history == running.history == {0: [3, 4, 5, 6]}
    assert torch.allclose(running(third, torch.zeros(5).long()), (third - third.mean()) / third.std())


# DiffusionNFT


def forward(*fields: Tensor) -> tuple[Tensor, ...]:
    """Each with its mirror image: all moments up to the third are then those of a Gaussian."""
    return tuple(torch.cat([field, -field]) for field in fields)


def improved(objective: DiffusionNFT, process: Gaussian, steps: int, reward: Tensor) -> Line:
    """The network of least loss at every level, where rewards are ``reward`` · x_0; one Newton step is the minimum."""
    mean, cov = DATA.moments()
    z0, noise = forward(*whitened(64, 4).split(2, 1))
    x0 = mean + z0 @ root(cov)
    deviation = float(reward @ cov @ reward) ** 0.5
    r = 0.5 + (x0 - mean) @ reward / deviation / (2 * objective.advantage_clip)
    module = line(process, steps, table_of(process, steps, Exact(process, DATA)), objective)
    table = module.policy.backbone.table
    for index in range(1, steps + 1):
        level = torch.full((len(x0),), index / steps, dtype=torch.float64)
        with noise_is(process, noise), mock.patch.object(seeding, "stratified_levels", lambda *_, level=level: level):
            loss, _ = objective.loss(module.policy, TrainingBatch(x0, rows(len(x0)), r))
            slope = torch.autograd.grad(loss, table, create_graph=True)[0][index].flatten()
            curvature = [torch.autograd.grad(s, table, retain_graph=True)[0][index].flatten() for s in slope]
        with torch.no_grad():
            table[index] -= torch.linalg.solve(torch.stack(curvature), slope).reshape(table[index].shape)
    return module


def prior(process: Gaussian) -> Moments:
    sigma = float(process.alpha_sigma(1.0)[1])
    return torch.zeros(2, dtype=torch.float64), sigma**2 * torch.eye(2, dtype=torch.float64)


@pytest.mark.parametrize(("beta", "spread"), [(1.0, 1.0), (0.5, 3.0)])
@pytest.mark.parametrize(
    ("schedule", "prediction", "eta"),
    [(LinearSchedule(), "velocity", 0.0), (CosineSchedule(), "x0", 1.0), (CosineSchedule(), "v", 1.0)],
)
def test_optimum_of_nft(schedule, prediction: str, eta: float, beta: float, spread: float) -> None:
    """Theorem 3.2: the old estimate and (2/beta) times the covariance of r and x_0, which is an exponential tilt."""
    process = Gaussian(schedule, prediction, (2,), eta=eta)
    reward = f64([0.9, 0.5])
    mean, cov = DATA.moments()
    tilt = reward / (float(reward @ cov @ reward) ** 0.5 * beta * spread)
    distributions = []
    for steps in (60, 120):
        module = improved(DiffusionNFT(beta, spread), process, steps, reward)
        x = torch.randn(7, 2, dtype=torch.float64, generator=generator())
        for level in (0.25, 0.5, 1.0):
            new, old = (
                process.predict_x0(process(m, x, level, rows(7)), x, level)
                for m in (module.policy.backbone, module.policy.reference_forward)
            )
            alpha, sigma = (float(c) for c in process.alpha_sigma(level))
            posterior = torch.linalg.inv(torch.linalg.inv(cov) + (alpha / sigma) ** 2 * torch.eye(2))
            assert torch.allclose(new - old, (posterior @ tilt).expand(7, 2), atol=1e-6)
        with torch.no_grad():
            distributions.append(propagate(process, module.policy.backbone, prior(process), steps))
    assert gap(extrapolate(*distributions), (mean + cov @ tilt, cov)) < 6e-3


def test_nft_has_no_slope_where_rewards_say_nothing() -> None:
    """With r = 1/2 for all draws the old network is the optimum, and the losses of both policies are equal."""
    process = Gaussian(LinearSchedule(), "velocity", (2,), eta=1.0)
    objective = DiffusionNFT()
    module = line(process, 8, table_of(process, 8, Exact(process, DATA)), objective)
    x0 = DATA.moments()[0] + whitened(64, 2) @ root(DATA.covs[0])
    with mock.patch.object(seeding, "stratified_levels", lambda *_: torch.full((64,), 0.5, dtype=torch.float64)):
        loss, shown = objective.loss(module.policy, TrainingBatch(x0, rows(64), torch.full((64,), 0.5)), generator())
    loss.backward()
    assert float(module.policy.backbone.table.grad.abs().max()) < 1e-12 and float(shown["old_distance"]) == 0


@pytest.mark.parametrize("adaptive", [False, True])
def test_nft_descends_towards_the_better(adaptive: bool) -> None:
    process = Gaussian(CosineSchedule(), "x0", (2,), eta=1.0)
    objective = DiffusionNFT(adaptive_weighting=adaptive, kl_coef=0.1)
    module = line(process, 8, table_of(process, 8, Exact(process, DATA)), objective)
    x0 = DATA.sample(4000, generator())
    advantage = (x0[:, 0] - x0[:, 0].mean()) / x0[:, 0].std()
    with mock.patch.object(seeding, "stratified_levels", lambda *_: torch.full((4000,), 0.5, dtype=torch.float64)):
        loss, _ = objective.loss(module.policy, TrainingBatch(x0, rows(4000), (0.5 + advantage / 10)), generator())
    loss.backward()
    assert float(module.policy.backbone.table.grad[4, 0, -1]) < 0  # the offset in the reward's direction grows


class TwoModes(torch.nn.Module):
    """Predicts x_0 of data at -1 and 1: one value for each sign of the noisy state."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = torch.nn.Parameter(f64(values))

    def forward(self, state: Tensor, time: Tensor, condition: Any) -> Tensor:
        return torch.where(state < 0, self.values[0], self.values[1])


X0, GOOD = f64([[-1.0], [1.0]]).repeat(8, 1), f64([0.0, 1.0]).repeat(8)
"""Samples at -1, which are bad, and at 1, which are good."""


def contrasting(name: str, limit: "float | None") -> Objective:
    if name == "anchored":
        objective = AnchoredShaping(push_limit=limit)
        objective.source = "current"
        return objective
    return DiffusionNFT(push_limit=limit, adaptive_weighting=name == "adaptive")


def two_modes(objective: Objective, values: list[float], reference: list[float]) -> Line:
    module = Line(TwoModes(values), Gaussian(CosineSchedule(), "x0", (1,)), steps=4, objective=objective)
    module.policy.reference = TwoModes(reference).requires_grad_(False)
    objective.setup(module.policy)
    return module


def mode_loss(module: Line, objective: Objective) -> tuple[Tensor, dict[str, Tensor]]:
    weight = 2 * GOOD if isinstance(objective, AnchoredShaping) else GOOD  # of acceptance, or r
    with mock.patch.object(seeding, "stratified_levels", lambda *_: torch.full((len(X0),), 0.05).double()):
        return objective.loss(module.policy, TrainingBatch(X0, rows(len(X0)), weight), generator())


@pytest.mark.parametrize("name", ["nft", "adaptive", "anchored"])
def test_push_limit_stops_bad_samples_alone(name: str) -> None:
    """The errors are twice the reference's, which is above a limit of 0.5 and below one of 5."""
    slopes = {}
    for limit in (None, 0.5, 5.0):
        objective = contrasting(name, limit)
        module = two_modes(objective, [-1.2, 1.2], [-1.1, 1.1])
        loss, shown = mode_loss(module, objective)
        (slopes[limit],) = torch.autograd.grad(loss, module.policy.backbone.values)
        if limit is not None:
            assert float(shown["stopped"]) == (0.5 if limit == 0.5 else 0.0)
    assert torch.equal(slopes[None], slopes[5.0]) and float(slopes[None][0]) > 0  # descent moves the bad value away
    assert float(slopes[0.5][0]) == 0 and torch.equal(slopes[0.5][1], slopes[None][1])


@pytest.mark.parametrize("name", ["nft", "anchored"])
@pytest.mark.parametrize(("limit", "least", "largest"), [(None, 100.0, math.inf), (0.5, 0.1, 0.2)])
def test_push_limit_bounds_the_error_near_bad_samples(
    name: str, limit: "float | None", least: float, largest: float
) -> None:
    """The reference errs by 0.1, and each of twelve rounds doubles an error near bad samples."""
    objective = contrasting(name, limit)
    module = two_modes(objective, [-1.1, 1.1], [-1.1, 1.1])
    optimizer = torch.optim.SGD(module.policy.backbone.parameters(), lr=0.05)
    for number in range(12):
        objective.on_round_start(module.policy, number)
        for _ in range(100):
            optimizer.zero_grad()
            mode_loss(module, objective)[0].backward()
            optimizer.step()
    bad, good = (module.policy.backbone.values.detach() - f64([-1.0, 1.0])).abs().tolist()
    assert least <= bad <= largest and good < 1e-2


def test_examples_of_nft() -> None:
    objective = DiffusionNFT(advantage_clip=1.0, stat_buffer_size=0)
    process = Gaussian(CosineSchedule(), "x0", (1,))
    module = line(process, 4, torch.zeros(5, 1, 2).double(), objective)
    rewards = f64([math.nan, 0, *[1] * 18, 9])
    state = torch.arange(21.0)[:, None]
    scored = ScoredRound(Chunk(state[1:], {}, rows(20)), rewards[1:], torch.zeros(20).long(), torch.ones(20), "current")
    examples = objective.training_batch(module.policy, scored)
    own = (rewards[1:] - rewards[1:].mean()) / rewards[1:].std()
    assert torch.equal(examples.state, state[1:])
    assert torch.allclose(examples.weight.double(), (0.5 + own / 2).clamp(0, 1))
    assert float(examples.weight.max()) == 1


def test_old_policy_follows() -> None:
    """The old policy keeps min(decay, rise · round) of itself, and moves once a round."""
    objective = DiffusionNFT(decay=0.5, decay_increment=0.2)
    process = Gaussian(CosineSchedule(), "x0", (1,))
    module = line(process, 4, torch.zeros(5, 1, 2).double(), objective)
    expected = 0.0
    for number, kept in enumerate((0.0, 0.2, 0.4, 0.5, 0.5)):
        with torch.no_grad():
            module.policy.backbone.table.fill_(number + 1)
        expected = kept * expected + (1 - kept) * (number + 1)
        objective.on_round_start(module.policy, number)
        objective.on_round_start(module.policy, number)
        with module.policy.eval_weights("current"):
            assert torch.allclose(module.policy.backbone.table, f64(expected))
        with module.policy.eval_weights():
            assert torch.allclose(module.policy.backbone.table, f64(number + 1.0))


# Reward-weighted regression


def test_distribution_of_reward_weighted_regression() -> None:
    """With weights exp(r / T) the denoiser is that of the tilted distribution, N(m + S w / T, S).

    40 000 draws; the tolerance is 5 standard errors of the estimate in the middle, found over 20 seeds.
    """
    process = Gaussian(CosineSchedule(), "x0", (2,), eta=1.0)
    objective = Shaping()
    module = line(process, 4, table_of(process, 4, Exact(process, DATA)), objective)
    x0, w, temperature, count = DATA.sample(40_000, generator()), f64([0.9, 0.5]), 1.5, 40_000
    accepted = ExponentialTilt(temperature)(x0 @ w, generator=generator())
    assert len(accepted.index) == count
    scored = ScoredRound(
        Chunk(x0, {}, rows(count)),
        x0 @ w,
        torch.zeros(count).long(),
        accepted.weight.double(),
        "current",
    )
    examples = objective.training_batch(module.policy, scored)
    level = torch.full((count,), 0.5, dtype=torch.float64)
    table = module.policy.backbone.table
    with mock.patch.object(seeding, "stratified_levels", lambda *_: level):
        loss, _ = objective.loss(module.policy, examples, generator(1))
        slope = torch.autograd.grad(loss, table, create_graph=True)[0][2].flatten()
        curvature = [torch.autograd.grad(s, table, retain_graph=True)[0][2].flatten() for s in slope]
    with torch.no_grad():
        table[2] -= torch.linalg.solve(torch.stack(curvature), slope).reshape(2, 3)
        tilted = normal(DATA.means[0] + DATA.covs[0] @ w / temperature, DATA.covs[0])
        x = tilted.at(process, 0.5).moments()[0][None]
        right = process(Exact(process, tilted), x, 0.5, rows(1))
        before = process(module.policy.reference_forward, x, 0.5, rows(1))
        found = process(module.policy.backbone, x, 0.5, rows(1))
    assert float((found - right).abs().max()) < 0.03 < 0.1 < float((before - right).abs().max())


# What each refuses


SPEC = RoundSpec("current", "current", True, AcceptAll())


@pytest.mark.parametrize("objective", [PolicyGradient(), DiffusionNFT()], ids=lambda o: type(o).__name__)
def test_refusals(objective: Objective) -> None:
    module = line(CHAIN, 4, torch.zeros(5, 1, 2).double(), objective)
    objective.check(module.policy, SPEC)
    for name, value, words in (
        ("source", "reference", "source=current"),
        ("accept", ExponentialTilt(1.0), "accept=graft.accept.AcceptAll"),
        ("replay_rounds", 2, "replay_rounds=1"),
    ):
        spec = replace(SPEC, **{name: value})
        with pytest.raises(GraftError, match=words):
            objective.check(module.policy, spec)
    still = Gaussian(CosineSchedule(), "x0", (1,), eta=0.0)
    handed = line(still, 4, torch.zeros(5, 1, 2).double(), objective, level=0.25)
    with pytest.raises(GraftError, match="eta"):
        objective.check(handed.policy, SPEC)
    if isinstance(objective, PolicyGradient):
        with pytest.raises(GraftError, match="steps"):
            objective.check(line(CHAIN, 1, torch.zeros(2, 1, 2).double(), objective).policy, SPEC)
    else:
        objective.check(line(still, 4, torch.zeros(5, 1, 2).double(), objective).policy, SPEC)
