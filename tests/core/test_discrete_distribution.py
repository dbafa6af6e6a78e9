"""Categorical processes on listed distributions: kernels, steps, losses and states at u*, without sampling error.

The distribution of two positions of three classes has 9 states of data, and 16 with masks. The network is the exact
posterior, and a sampler's distribution is a product of transition matrices, so only the error of its steps is left.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from discrete import DISTRIBUTION, Table, count, index_of, kernel, listed, noised, states_of, steps, whole
from torch import Tensor

from graft.errors import GraftError, InversionError
from graft.network.corrector import GaussianCorrector, NoiseCorrector
from graft.process import (
    Categorical,
    Gaussian,
    LinearSchedule,
    MaskedCategorical,
    MultiFieldProcess,
    NoisyExample,
    UniformCategorical,
)
from graft.process.projections import MaskProjection
from graft.solvers import BoundModel, Euler

KINDS = [MaskedCategorical, UniformCategorical]
TILT = torch.tensor([0.3, 1.0, 2.0, 0.2, 1.0, 3.0, 0.1, 1.5, 0.7], dtype=torch.float64)  # P(accept | x_0), unscaled
ACCEPTED = DISTRIBUTION * TILT / (DISTRIBUTION @ TILT)


def distance(a: Tensor, b: Tensor) -> float:
    """Return the total variation distance."""
    return float((a - b).abs().sum() / 2)


@pytest.mark.parametrize("warp", [1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_kernel(kind: type[Categorical], warp: float) -> None:
    """`corrupt` has the defined distribution between any two levels; a grid for its uniform number leaves 1/M."""
    process = kind((1, 3), warp=warp)
    states, grid = states_of(process), (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    for from_level, level in [(0.0, 0.4), (0.4, 0.7), (0.3, 1.0), (0.5, 0.5), (1.0, 1.0)]:
        x = states.repeat_interleave(len(grid), 0)
        y = process.corrupt_given_noise(x, grid.repeat(len(states))[:, None, None], level, from_level)
        found = torch.nn.functional.one_hot(index_of(process, y), len(states)).double()
        share = found.reshape(len(states), len(grid), -1).mean(1)
        assert torch.allclose(share, kernel(process, level, from_level), atol=2.1 / len(grid))


@pytest.mark.parametrize("kind", KINDS)
def test_kernels_compose(kind: type[Categorical]) -> None:
    """Chapman-Kolmogorov: from s to t to u is from s to u."""
    process = kind((2, 3), warp=1.5)
    once = kernel(process, 0.9, 0.2)
    assert torch.allclose(kernel(process, 0.6, 0.2) @ kernel(process, 0.9, 0.6), once, atol=1e-14)
    assert torch.allclose(once.sum(1), torch.ones(len(once), dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_prior(kind: type[Categorical]) -> None:
    """The prior is level 1 of any data; nine frequencies of 20,000 at 4.5 standard errors: 6 in 100,000 seeds."""
    process = kind((2, 3))
    x = process.prior(count(20_000), torch.Generator().manual_seed(0))
    assert x.dtype == torch.float64
    share = torch.bincount(index_of(process, x), minlength=len(states_of(process))) / len(x)
    right = noised(process, DISTRIBUTION, 1.0)
    assert bool(((share - right).abs() <= 4.5 * (right * (1 - right) / len(x)).sqrt() + 1e-12).all())
    assert torch.allclose(right, noised(process, ACCEPTED, 1.0))


@pytest.mark.parametrize("from_level", [0.0, 0.25])
@pytest.mark.parametrize("warp", [1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_steps_reproduce_the_distribution(kind: type[Categorical], warp: float, from_level: float) -> None:
    """One position: exactly, in any number of steps. Two that depend on each other: with an error like 1 / steps."""
    alone = kind((1, 3), warp=warp)
    distribution = torch.tensor([0.2, 0.7, 0.1], dtype=torch.float64)
    for number in (4, 12):
        made = steps(alone, Table(alone, distribution), noised(alone, distribution, 1.0), number, 1.0, from_level)
        assert distance(made, noised(alone, distribution, from_level)) < 1e-9
    process = kind((2, 3), warp=warp)
    right = noised(process, DISTRIBUTION, from_level)
    errors = [
        distance(
            steps(process, Table(process, DISTRIBUTION), noised(process, DISTRIBUTION, 1.0), n, 1.0, from_level), right
        )
        for n in (16, 32, 64)
    ]
    assert errors[-1] < 0.45 / 64 * (1 + warp)
    assert all(after == pytest.approx(before / 2, rel=0.06) for before, after in pairwise(errors))


@pytest.mark.parametrize("kind", KINDS)
def test_steps_draw_from_their_probabilities(kind: type[Categorical]) -> None:
    """A step follows `log_prob`; 16 frequencies of 20,000 at 4.5 standard errors: one false alarm in 10,000 seeds."""
    process = kind((2, 3))
    states = states_of(process)
    x = (states[-1] if kind is MaskedCategorical else states[4]).expand(20_000, -1, -1)
    condition = count(len(x))
    generator = torch.Generator().manual_seed(0)
    y = Euler().denoise_step(BoundModel(process, Table(process, DISTRIBUTION), condition), x, 0.75, 0.25, generator)
    share = torch.bincount(index_of(process, y), minlength=len(states)) / len(x)
    output = process(Table(process, DISTRIBUTION), x[: len(states)], 0.75, count(len(states)))
    right = process.log_prob(output, x[: len(states)], states, 0.75, 0.25, count(len(states))).exp()
    assert float(right.sum()) == pytest.approx(1)
    assert bool(((share - right).abs() <= 4.5 * (right * (1 - right) / len(x)).sqrt() + 1e-12).all())


def expected(
    process: Categorical,
    logits: Tensor,
    distribution: Tensor,
    level: float,
    from_level: float,
    target: "Tensor | None" = None,
) -> Tensor:
    """Return the expected loss at ``level`` of a network with output ``logits`` (S, N, K).

    ``distribution`` (S,) is of states at ``from_level``, for target (b) of x_0; ``target`` lists the data's states.
    """
    states = states_of(process)
    if target is None:
        joint = distribution[:, None] * kernel(process, level, from_level)
        first, last = (t.flatten() for t in torch.meshgrid(*[torch.arange(len(states))] * 2, indexing="ij"))
        goal, from_ = None, states[first]
    else:
        joint = whole(process, distribution)[:, None] * kernel(process, level, 0.0)
        first, last = (t.flatten() for t in torch.meshgrid(*[torch.arange(len(states))] * 2, indexing="ij"))
        goal, from_ = states[first], states[first]  # x_from is not looked at
    u = torch.full((len(first),), level, dtype=torch.float64)
    s = torch.full_like(u, from_level)
    probability = joint.flatten()
    error = process.output_loss(logits[last], NoisyExample(states[last], from_, from_, u, s, goal), count(len(first)))
    return (probability * error)[probability > 0].sum()


def exact(process: Categorical, distribution: Tensor, level: float) -> Tensor:
    states = states_of(process)
    return Table(process, distribution)(states, process.timestep(level).expand(len(states)), {}).clamp(min=-40)


@pytest.mark.parametrize("weight", ["elbo", "equal"])
@pytest.mark.parametrize("target", ["data", "a", "b"])
@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_least_at_the_posterior(kind: type[Categorical], target: str, weight: str) -> None:
    """On data, and at u* = 0.25 with targets (a) and (b), the minimiser is the posterior of accepted x_0."""
    process = kind((2, 3), weight=weight)
    from_level = 0.0 if target == "data" else 0.25
    distribution = noised(process, ACCEPTED, from_level) if target != "b" else ACCEPTED
    goal = listed(2, 3) if target == "b" else None
    generator = torch.Generator().manual_seed(0)
    for level in (0.3, 0.7, 0.95):
        logits = exact(process, ACCEPTED, level).requires_grad_()
        least = expected(process, logits, distribution, level, from_level, goal)
        (slope,) = torch.autograd.grad(least, logits)
        assert float(slope.abs().max()) < 1e-9
        for _ in range(3):
            other = logits.detach() + 0.3 * torch.randn(logits.shape, dtype=torch.float64, generator=generator)
            assert float(expected(process, other, distribution, level, from_level, goal)) > float(least.detach()) + 1e-5
    wrong = exact(process, DISTRIBUTION, 0.7).requires_grad_()  # and the posterior of another distribution is not
    (slope,) = torch.autograd.grad(expected(process, wrong, distribution, 0.7, from_level, goal), wrong)
    assert float(slope.abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("kind", "from_level"), [(MaskedCategorical, 0.0), (UniformCategorical, 0.0), (UniformCategorical, 0.25)]
)
def test_bound_is_tight(kind: type[Categorical], from_level: float) -> None:
    """Integrated over the levels, the ELBO of the exact posterior is the entropy of its distribution."""
    process = kind((2, 3), warp=1.0)
    distribution = noised(process, DISTRIBUTION, from_level)
    entropy = float(-(distribution * distribution.clamp(min=1e-300).log()).sum())
    node, share = np.polynomial.legendre.leggauss(24)
    v, weight = (node + 1) / 2, share / 2
    total = 0.0
    for x, w in zip(v, weight, strict=True):
        u = from_level + (1 - from_level) * x**3  # the integrand has a logarithm at its lower end
        states = states_of(process)
        joint = whole(process, DISTRIBUTION)[:, None] * kernel(process, u, 0.0)
        mean = (torch.einsum("su,snk->unk", joint, states) / joint.sum(0)[:, None, None]).nan_to_num(1.0)
        rate = expected(process, mean.clamp(min=1e-300).log(), distribution, u, from_level)
        total += w * 3 * x**2 * (1 - from_level) * float(rate)
    assert 2 * total == pytest.approx(entropy, rel=2e-4)  # the loss is the mean over two positions


@pytest.mark.parametrize("kind", KINDS)
def test_distribution_at_the_handover(kind: type[Categorical]) -> None:
    """From 1 to u* with the minimiser of target (a), then with the reference: both distributions are known."""
    process, handover = kind((2, 3)), 0.25
    tuned, reference = Table(process, ACCEPTED), Table(process, DISTRIBUTION)
    right = noised(process, ACCEPTED, handover)
    joint = whole(process, DISTRIBUTION)[:, None] * kernel(process, handover, 0.0)
    final = (joint / joint.sum(0).clamp(min=1e-300)) @ right  # the reference's posterior of x_0
    assert distance(right, noised(process, DISTRIBUTION, handover)) > 0.15  # there is something to learn
    assert distance(final, whole(process, DISTRIBUTION)) > 0.1
    errors = []
    for number in (32, 64):
        middle = steps(process, tuned, noised(process, DISTRIBUTION, 1.0), number, 1.0, handover)
        end = steps(process, reference, middle, number, handover, 0.0)
        errors.append([distance(middle, right), distance(end, final)])
    assert max(errors[1]) < 0.015
    assert all(after < 0.56 * before for before, after in zip(*errors, strict=True))


def test_masks_of_a_distribution_that_nothing_is_noised_to() -> None:
    """Target (a) then learns the classes given that there is one; which positions are masked stays the process's."""
    process, from_level, level = MaskedCategorical((1, 3)), 0.5, 0.8
    distribution = torch.tensor([0.5, 0.3, 0.1, 0.1], dtype=torch.float64)  # masked with 0.1, where the process has 0.5
    logits = torch.zeros(4, 1, 3, dtype=torch.float64)
    logits[3, 0] = distribution[:3].log()
    logits.requires_grad_()
    (slope,) = torch.autograd.grad(expected(process, logits, distribution, level, from_level), logits)
    assert float(slope.abs().max()) < 1e-12
    made = steps(
        process,
        lambda x, t, c: logits.detach()[index_of(process, x)],
        noised(process, distribution[:3] / 0.9, 1.0),
        4,
        1.0,
        0.5,
    )
    assert made.tolist() == pytest.approx([0.5 * v for v in (5 / 9, 3 / 9, 1 / 9)] + [0.5])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_never_changes(kind: type[Categorical]) -> None:
    """Padding counts in no loss, probability or divergence, and has no gradient."""
    process = kind((3, 4), projection=MaskProjection())
    alone = kind((2, 4))
    generator = torch.Generator().manual_seed(0)
    mask = torch.tensor([[1.0, 1.0, 0.0]]).expand(16, -1)
    condition = {"mask": mask}
    x = process.prior(condition, generator)
    assert bool((x[:, 2] == 0).all())
    clean = torch.nn.functional.one_hot(torch.randint(4, (16, 3), generator=generator), 4).float() * mask[..., None]
    assert bool((process.corrupt(clean, 0.6, 0.0, condition, generator)[:, 2] == 0).all())
    output = torch.randn(16, 3, 4, generator=generator, requires_grad=True)
    for level in (1.0, 0.5):
        y = process.denoise_step(output.detach(), x, level, level - 0.5, condition, generator)
        assert bool((y[:, 2] == 0).all())
        found = process.log_prob(output, x, y, level, level - 0.5, condition)
        assert torch.allclose(found, alone.log_prob(output[:, :2], x[:, :2], y[:, :2], level, level - 0.5, condition))
        x = y
    assert bool((x[:, :2].sum(-1) == 1).all())
    level = torch.full((16,), 0.6, dtype=torch.float64)
    noisy = process.corrupt(clean, level, 0.0, condition, generator)
    zero = torch.zeros_like(level)
    loss = process.output_loss(output, NoisyExample(noisy, clean, noisy, level, zero), condition)
    two = alone.output_loss(output[:, :2], NoisyExample(noisy[:, :2], clean[:, :2], noisy, level, zero), condition)
    assert torch.allclose(3 * loss, 2 * two)
    other = output.detach().roll(1, 0)
    kl = process.step_kl(output, other, noisy, level, level / 2, condition)
    assert torch.allclose(kl, alone.step_kl(output[:, :2], other[:, :2], noisy[:, :2], level, level / 2, condition))
    guess = process.predict_x0(output.detach(), noisy, 0.6, condition)
    assert torch.allclose(guess.sum(-1), mask) and float(process.score_gap(guess, noisy, 0.6, condition).min()) >= 0
    (slope,) = torch.autograd.grad((loss + kl + found).sum(), output)
    assert bool((slope[:, 2] == 0).all()) and bool((slope[:, :2] != 0).any())


@pytest.mark.parametrize("kind", KINDS)
def test_estimates_are_means(kind: type[Categorical]) -> None:
    """E[x_0 | x_u] as probabilities; a class that is not masked is known. The score is largest near the data."""
    process = kind((2, 3))
    states, level = states_of(process), 0.5
    joint = whole(process, DISTRIBUTION)[:, None] * kernel(process, level, 0.0)
    mean = torch.einsum("su,snk->unk", joint, states) / joint.sum(0)[:, None, None]
    found = process.predict_x0(exact(process, DISTRIBUTION, level), states, level, count(len(states)))
    assert torch.allclose(found, mean, atol=1e-12)
    gaps = []
    for u in (0.25, 0.5, 0.75, 1.0):
        guess = process.predict_x0(exact(process, DISTRIBUTION, u), states, u, count(len(states)))
        gaps.append(float(noised(process, DISTRIBUTION, u) @ process.score_gap(guess, states, u, count(len(states)))))
    assert gaps == sorted(gaps, reverse=True) and gaps[-1] == 0
    odds = process.log_snr(torch.tensor([0.25, 0.5, 0.75]))
    assert torch.allclose(odds, torch.tensor([math.log(3), 0.0, -math.log(3)], dtype=torch.float64))


def test_score_of_the_uniform_process() -> None:
    """`departure` is that of the ratios p(y) / p(x), y one position away, from the prior's 1."""
    process, level = UniformCategorical((2, 3)), 0.4
    states, distribution = states_of(process), noised(process, DISTRIBUTION, level)
    away = (states[:, None] != states[None]).any(-1).sum(-1) == 1
    right = torch.where(away, (distribution[None] / distribution[:, None] - 1).square(), 0.0).sum(1)
    guess = process.predict_x0(exact(process, DISTRIBUTION, level), states, level, count(9))
    assert torch.allclose(process.score_gap(guess, states, level, count(9)), right)


@pytest.mark.parametrize("kind", KINDS)
def test_divergence_of_steps(kind: type[Categorical]) -> None:
    """`step_kl` is the sum over all next states that `log_prob` knows."""
    process = kind((2, 3))
    states = states_of(process)
    one, other = exact(process, DISTRIBUTION, 0.75), exact(process, ACCEPTED, 0.75)
    found = process.step_kl(one, other, states, 0.75, 0.5, count(len(states)))
    pairs = torch.cartesian_prod(torch.arange(len(states)), torch.arange(len(states)))
    condition = count(len(pairs))
    p, q = (
        process.log_prob(o[pairs[:, 0]], states[pairs[:, 0]], states[pairs[:, 1]], 0.75, 0.5, condition)
        for o in (one, other)
    )
    right = (p.exp() * (p - q)).reshape(len(states), -1).sum(1)
    assert torch.allclose(found, right, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_cannot_be_inverted(kind: type[Categorical]) -> None:
    process = kind((1, 3))
    assert (
        process.stochastic and process.reverses_in_distribution(1.0) and process.has_log_prob and not process.invertible
    )
    with pytest.raises(InversionError, match=rf"{kind.__name__} draws the classes of a discrete field"):
        Euler().step(BoundModel(process, Table(process, DISTRIBUTION[:3]), {}), states_of(process), 0.5, 0.75, None)
    both = MultiFieldProcess({"kind": process, "place": Gaussian(LinearSchedule(), "velocity", (1,), eta=0.0)})
    with pytest.raises(InversionError, match=r"'kind' draws the classes of a discrete field.*leave this field out"):
        state = {"kind": states_of(process), "place": states_of(process)[:, 0]}
        Euler().step(BoundModel(both, lambda s, t, c: s, {}), state, 0.5, 0.75, None)


@pytest.mark.parametrize("kind", KINDS)
def test_correctors_refuse_discrete_fields(kind: type[Categorical]) -> None:
    both = MultiFieldProcess({"kind": kind((1, 3)), "place": Gaussian(LinearSchedule(), "velocity", (1,), eta=0.0)})
    noise = Gaussian(LinearSchedule(), "velocity", (1,), eta=0.0)
    for corrector in (GaussianCorrector(), NoiseCorrector(noise, torch.nn.Identity())):
        with pytest.raises(GraftError, match=rf"^a corrector is for Gaussian noise, and kind has {kind.__name__}"):
            corrector.check_compatible(both)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"shape": (3, 1)}, "at least 2"), ({"warp": 0.0}, "positive"), ({"weight": "snr"}, "be elbo or equal")],
)
def test_bad_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(GraftError, match=message):
        MaskedCategorical(**{"shape": (2, 3), **settings})
