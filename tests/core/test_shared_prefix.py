"""Samples that share their first steps: the distribution, the gradient and the advantages, with exact networks."""

import math

import pytest
import torch
from exact import Exact, f64, normal, rows
from line import Line, line, table_of
from torch import Tensor

from graft import SampleRequest
from graft.core.datatypes import Chunk
from graft.dataloaders.sampling import SampleRequests
from graft.objectives import PolicyGradient, ScoredRound
from graft.objectives.advantages import AdvantageTracker
from graft.process import CosineSchedule, Gaussian

PROCESS = Gaussian(CosineSchedule(), "x0", (1,), eta=1.0)
POINT = normal(f64([0.5]), f64([[0.7]]))
STEPS, LEVEL, UPPER = 5, 0.2, 0.6
EACH = 4


def chain(objective: PolicyGradient, moved: float) -> Line:
    """A network that is the right one of N(0.5, 0.7), moved a little, from level 0.6 to 0.2."""
    table = table_of(PROCESS, STEPS, Exact(PROCESS, POINT))
    module = line(PROCESS, STEPS, table, objective, level=LEVEL, upper_level=UPPER)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(9)
        module.policy.backbone.table += moved * torch.randn(table.shape, dtype=torch.float64, generator=generator)
    objective.setup(module.policy)
    return module


def drawn(module: Line, count: int, seed: int, record: tuple[float, ...]) -> "tuple[Chunk, int]":
    request = SampleRequest(rows(count), (), "current", record, samples_per_prefix=EACH)
    made = module.policy.sample(request, torch.Generator().manual_seed(seed))
    return Chunk(made.state, made.states, rows(count)), made.denoiser_calls


def moments(module: Line) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of x_0, and the covariance of two samples of one prefix, exactly."""
    mean, variance, shared = f64(0.0), f64(float(PROCESS.alpha_sigma(1.0)[1]) ** 2), f64(0.0)
    x = f64([[0.0], [1.0]])
    for i in range(STEPS, 0, -1):
        tuned = LEVEL < i / STEPS <= UPPER
        model = module.policy.backbone if tuned else module.policy.reference_forward
        y, c = PROCESS.transition(PROCESS(model, x, i / STEPS, rows(2)), x, i / STEPS, (i - 1) / STEPS, rows(2))
        slope, offset = y[1, 0] - y[0, 0], y[0, 0]
        mean, variance, shared = slope * mean + offset, slope**2 * variance + c**2, slope**2 * shared
        if (i - 1) / STEPS == UPPER:
            shared = variance
    return mean, variance, shared


def test_states_and_calls() -> None:
    module = chain(PolicyGradient(), 0.1)
    levels = (0.8, UPPER, 0.4, LEVEL)
    chunk, calls = drawn(module, 40, 0, levels)
    assert calls == STEPS and module.policy.denoiser_calls("current") == STEPS
    assert module.policy.denoiser_calls_of_prefix("current") == 2
    assert module.policy.denoiser_calls_of_prefix("reference") == 0
    for level in levels:
        groups = chunk.recorded[level].reshape(10, EACH)
        equal = groups == groups[:, :1]
        assert bool(equal.all() if level >= UPPER else not equal[:, 1:].any())
        assert len(groups[:, 0].unique()) == 10


def test_distribution() -> None:
    """Samples have the sampler's own distribution, and those of a prefix the covariance of its state.

    The tolerance is 4.5 standard errors of 50,000 prefixes, each of three estimates: two false alarms in 100,000 seeds.
    """
    module = chain(PolicyGradient(), 0.1)
    mean, variance, shared = (each.detach() for each in moments(module))
    chunk, _ = drawn(module, EACH * 50_000, 0, ())
    groups = chunk.state.reshape(-1, EACH)
    centred = groups - mean
    pairs = (centred.sum(1) ** 2 - (centred**2).sum(1)) / (EACH * (EACH - 1))
    for found, right in ((groups.mean(1), mean), ((centred**2).mean(1), variance), (pairs, shared)):
        assert abs(float(found.mean() - right)) < 4.5 * float(found.std()) / math.sqrt(len(found))
    assert 0.1 < float(shared / variance) < 0.9  # neither independent nor equal


def test_gradient() -> None:
    """Against the mean of its own prefix a reward gives the gradient of the mean reward, times (K - 1) / K.

    The covariance of a sample's score with its own reward in that mean is the part that is lost. Four parameters at 4.5
    standard errors of 40 batches: three false alarms in 100,000 seeds.
    """
    objective = PolicyGradient(clip_range=1e6, steps_per_sample=0)
    module = chain(objective, 0.1)
    (wanted,) = torch.autograd.grad(moments(module)[0], module.policy.backbone.table)
    found = []
    levels = objective.record_levels(module.policy)
    assert levels == (UPPER, 0.4, LEVEL)
    for seed in range(40):
        chunk, _ = drawn(module, 1000, seed, levels)
        rewards, prefix = chunk.state[:, 0], torch.arange(1000) // EACH
        scored = ScoredRound(chunk, rewards, torch.zeros(1000).long(), torch.ones(1000), "current", prefix)
        batch = objective.training_batch(module.policy, scored)
        batch.weight = rewards - rewards.reshape(-1, EACH).mean(1).repeat_interleave(EACH)
        loss, _ = objective.loss(module.policy, batch, torch.Generator().manual_seed(seed))
        (slope,) = torch.autograd.grad(loss, module.policy.backbone.table)
        found.append(-(len(levels) - 1) * slope)  # the loss is a mean over steps
    each = torch.stack(found).flatten(1) * EACH / (EACH - 1)
    error = each.std(0) / math.sqrt(len(each))
    moving = error > 0
    assert int(moving.sum()) == 4
    assert bool((((each.mean(0) - wanted.flatten()) / error)[moving].abs() < 4.5).all())
    assert bool((wanted.flatten()[moving].abs() / error[moving] > 10).any())  # and it could have failed


def test_advantages_within_a_prefix() -> None:
    tracker = AdvantageTracker(stat_buffer_size=64, stat_min_count=2, clip=1.0)
    tracker(torch.tensor([100.0, 300.0]), torch.zeros(2).long())
    before = dict(tracker.history)
    rewards = torch.tensor([1.0, 7.0, 2.0, 5.0, 3.0, 7.0, 9.0])
    prefix = torch.tensor([0, 4, 0, 2, 0, 4, 9])
    found = tracker(rewards, torch.zeros(7).long(), prefix)
    # mean 2 and deviation 1; equal rewards; one draw
    assert found.tolist() == pytest.approx([-1, 0, 0, 0, 1, 0, 0])
    assert tracker.history == before
    wide = AdvantageTracker(clip=0.5)(rewards, torch.zeros(7).long(), prefix)
    assert wide.tolist() == pytest.approx([-0.5, 0, 0, 0, 0.5, 0, 0])


def test_requests_have_a_condition_for_each_prefix() -> None:
    class Numbered(Line):
        def conditions_for(self, purpose, start, count, generator):  # type: ignore[no-untyped-def]
            return {"row": torch.arange(start, start + count)}

    table = table_of(PROCESS, STEPS, Exact(PROCESS, POINT))
    module = Numbered(line(PROCESS, STEPS, table).policy.backbone, PROCESS, steps=STEPS)
    requests = SampleRequests(module, 24, 16, ("rollout", 0), "current", (), EACH)
    conditions = torch.cat([requests[i].condition["row"] for i in range(len(requests))])
    assert conditions.tolist() == [number // EACH for number in range(24)]
    assert {requests[i].samples_per_prefix for i in range(2)} == {EACH}
