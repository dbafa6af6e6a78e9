"""Anchored shaping in closed form, and the distribution of a sampler with an upper level below 1."""

from unittest import mock

import pytest
import torch
from exact import Exact, Mixture, extrapolate, f64, gap, noise_is, normal, propagate, rows
from line import Line, line, table_of
from torch import Tensor, nn

from graft import GraftError, TrainingBatch
from graft.accept import TopFraction
from graft.core import seeding
from graft.core.datatypes import Chunk
from graft.objectives import AnchoredShaping, DiffusionNFT, PolicyGradient, RoundSpec, ScoredRound, Shaping
from graft.process import CosineSchedule, Gaussian, LinearSchedule, Process
from graft.sampler import run_stages

# Points 0, 2, 4 noised by -1 or 1 at level 1/2 of a flow: (x_0 + noise) / 2 is one of four places, two of them reached
# from two points, so that a network is four numbers and every mean is a sum of a few terms.

POINTS, SIGNS = f64([0.0, 2.0, 4.0]), f64([-1.0, 1.0])
DRAWN = f64([0.5, 0.2, 0.3])  # the distribution of all draws
WEIGHT = f64([0.0, 2.0, 2.0])  # of mean 1 over all draws: the first point is rejected
PLACES = f64([-0.5, 0.5, 1.5, 2.5])
FLOW = Gaussian(LinearSchedule(), "x0", (1,))


class Lookup(nn.Module):
    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table.clone())

    def forward(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        return self.table[(state - PLACES).abs().argmin(1)][:, None]


class Places(Line):
    def __init__(self, table: Tensor, process: Process = FLOW) -> None:
        super(Line, self).__init__(Lookup(table), process, steps=2, objective=AnchoredShaping())
        self.policy.reference = Lookup(table).requires_grad_(False)
        self.policy.reference_file = {"path": "none", "sha256": "none"}


def batch(copies: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Return (x_0, noise, weight), each point as often as it is sampled, with either noise."""
    times = (DRAWN * copies).round().long()
    x0 = POINTS.repeat_interleave(times).repeat(2)[:, None]
    return x0, SIGNS.repeat_interleave(copies)[:, None], WEIGHT.repeat_interleave(times).repeat(2)


def denoiser(distribution: Tensor) -> tuple[Tensor, Tensor]:
    """((4,) E[x_0 | place], (4,) p(place)) of a distribution of the points."""
    joint = torch.zeros(4, 3, dtype=torch.float64)
    for i, x in enumerate(POINTS):
        for sign in SIGNS:
            joint[(PLACES == (x + sign) / 2).nonzero()[0, 0], i] += distribution[i] / 2
    p = joint.sum(1)
    return joint @ POINTS / p.clamp(min=1e-300), p


def loss_of(module: Places, copies: int = 10, plain: bool = False) -> Tensor:
    x0, noise, weight = batch(copies)
    n = len(x0)
    kind = torch.cat([torch.arange(3).repeat_interleave((DRAWN * copies).round().long())] * 2)
    scored = ScoredRound(
        Chunk(x0, {}, rows(n)), f64(kind.tolist()), kind, torch.ones(n) if plain else weight, "reference"
    )
    examples = module.objective.training_batch(module.policy, scored)
    half = torch.full((n,), 0.5, dtype=torch.float64)
    with noise_is(FLOW, noise), mock.patch.object(seeding, "stratified_levels", lambda *_: half):
        loss, _ = module.objective.loss(module.policy, examples)
    return loss


@pytest.mark.parametrize("scale", [1.0, 2.5])
@pytest.mark.parametrize("wrong", [0.0, 0.3], ids=["consistent", "inconsistent"])
def test_optimum(wrong: float, scale: float) -> None:
    """D = D_acc + p_all / p_acc (D_old - D_all): GRAFT's where the old network is consistent, corrected where not.

    A contrast scale multiplies the way there from D_old.
    """
    (all_draws, p_all), (accepted, p_acc) = denoiser(DRAWN), denoiser(DRAWN * WEIGHT)
    old = all_draws + wrong * f64([1.0, -2.0, 0.5, 1.0])
    module = Places(old)
    module.objective.contrast_scale = scale
    table = module.policy.backbone.table
    (slope,) = torch.autograd.grad(loss_of(module), table, create_graph=True)
    curvature = torch.stack([torch.autograd.grad(s, table, retain_graph=True)[0] for s in slope]).diagonal()
    reached = p_acc > 0  # where nothing accepted is, nothing is learned
    found = (table - slope / curvature.clamp(min=1e-12)).detach()[reached]
    best = accepted + p_all / p_acc.clamp(min=1e-300) * (old - all_draws)
    expected = (old + scale * (best - old))[reached]
    assert torch.allclose(found, expected, atol=1e-6)
    assert int(reached.sum()) == 3 and float((accepted - all_draws)[reached].abs().max()) > 0.5
    if not wrong and scale == 1:
        assert torch.allclose(found, accepted[reached], atol=1e-6)


def test_without_selection_every_draw_s_gradient_is_zero() -> None:
    """However wrong the old network is; `Shaping`'s is the network's error of its own draws."""
    module = Places(denoiser(DRAWN)[0] + 0.3)
    loss_of(module, plain=True).backward()
    assert float(module.policy.backbone.table.grad.abs().max()) < 1e-12
    x0, noise, _ = batch()
    one = TrainingBatch(x0[:1], rows(1), torch.ones(1))  # a single draw
    with noise_is(FLOW, noise[:1]), mock.patch.object(seeding, "stratified_levels", lambda *_: f64([0.5])):
        for objective, zero in ((module.objective, True), (Shaping(), False)):
            module.policy.backbone.table.grad = None
            objective.loss(module.policy, one)[0].backward()
            assert (float(module.policy.backbone.table.grad.abs().max()) < 1e-12) == zero


def test_who_anchors() -> None:
    """Draws of the reference: the reference; of the current model: its averaged weights when the round began."""
    module = Places(denoiser(DRAWN)[0])
    objective = module.objective
    with torch.no_grad():
        module.policy.backbone.table += 1
    objective.on_round_start(module.policy, 0)
    with torch.no_grad():
        module.policy.backbone.table += 1
    x0, noise, weight = batch()
    half = torch.full((len(x0),), 0.5, dtype=torch.float64)
    for source, distance in (("reference", 2.0), ("current", 1.0)):
        scored = ScoredRound(Chunk(x0, {}, rows(len(x0))), weight, torch.zeros(len(x0)), weight, source)
        examples = objective.training_batch(module.policy, scored)
        with noise_is(FLOW, noise), mock.patch.object(seeding, "stratified_levels", lambda *_: half):
            _, shown = objective.loss(module.policy, examples)
        assert float(shown["old_distance"]) == pytest.approx(distance**2)


# A start below 1

DATA = normal(f64([0.6, -0.4]), f64([[0.8, 0.3], [0.3, 0.5]]))
TILT = f64([1.2, 0.7])


@pytest.mark.parametrize(("start", "level"), [(0.5, 0.0), (0.75, 0.25)])
def test_distribution_from_a_start(start: float, level: float) -> None:
    """The start has the reference's distribution, the rest the accepted one given it, ∝ exp(w · x) at ``level``.

    Given x_v = α x_0 + σ ε the reference's x_0 is N(A x_v + b, C) and the accepted one N(A x_v + b + C w, C); the
    reference's steps below a level change nothing of that but what they see of w through x_u (C becomes the part of it
    that x_u decides).
    """
    process = Gaussian(CosineSchedule(), "x0", (2,), eta=1.0)
    mean, cov = DATA.moments()
    tilted = Mixture(DATA.weights, (mean + cov @ TILT)[None], DATA.covs)

    def left(u: float) -> Tensor:
        """The covariance of x_0 given x_u."""
        alpha, sigma = (float(c) for c in process.alpha_sigma(u))
        return torch.linalg.inv(torch.linalg.inv(cov) + (alpha / sigma) ** 2 * torch.eye(2))

    decided = left(start) - (left(level) if level else 0)
    distributions = []
    for steps in (60, 120):
        module = line(process, steps, table_of(process, steps, Exact(process, DATA)), upper_level=start, level=level)
        with torch.no_grad():
            module.policy.backbone.table.copy_(table_of(process, steps, Exact(process, tilted)))
        distribution = (
            torch.zeros(2, dtype=torch.float64),
            float(process.alpha_sigma(1.0)[1]) ** 2 * torch.eye(2).double(),
        )
        with torch.no_grad():
            for stage in module.policy.sampling_stages("tuned"):
                distribution = propagate(process, stage.model, distribution, steps, stage.start, stage.stop)
        distributions.append(distribution)
    assert [(s.start, s.stop) for s in module.policy.sampling_stages("tuned")] == [
        (1, start),
        (start, level),
        (level, 0),
    ][: 2 + (level > 0)]
    assert float((decided @ TILT).norm()) > 0.1 < float(((cov - decided) @ TILT).norm())  # it could have been either
    assert gap(extrapolate(*distributions), (mean + decided @ TILT, cov)) < 6e-3


def test_a_start_changes_nothing_above_it() -> None:
    """State by state, on the same noise; and the levels that are trained lie below it."""
    process = Gaussian(CosineSchedule(), "x0", (2,))
    table = table_of(process, 8, Exact(process, DATA))
    module = line(process, 8, table, upper_level=0.6)
    assert module.policy.interval.high == 0.625 and [s.stop for s in module.policy.sampling_stages("reference")] == [0]
    with torch.no_grad():
        module.policy.backbone.table += 0.1
    ours, theirs = (
        run_stages(module.policy.sampling_stages(w), rows(5), 8, (0.625, 0.5), torch.Generator().manual_seed(0))
        for w in ("tuned", "reference")
    )
    assert torch.equal(ours.states[0.625], theirs.states[0.625])
    assert not torch.allclose(ours.states[0.5], theirs.states[0.5])
    assert module.policy.denoiser_calls("tuned") == module.policy.denoiser_calls("reference") == ours.denoiser_calls
    times: list[float] = []
    module.policy.backbone.register_forward_pre_hook(lambda _, args: times.extend(args[1].tolist()))
    for objective in (AnchoredShaping(), DiffusionNFT(), Shaping()):
        times.clear()
        objective.setup(module.policy)
        scored = ScoredRound(
            Chunk(torch.zeros(64, 2).double(), {}, rows(64)), torch.arange(64.0), *[torch.ones(64)] * 2, "reference"
        )
        objective.loss(module.policy, objective.training_batch(module.policy, scored), torch.Generator().manual_seed(0))
        top = float(process.timestep(0.625))
        assert 0.9 * top < max(times) <= top + 1e-6
    assert PolicyGradient().record_levels(module.policy) == (0.625, 0.5, 0.375, 0.25, 0.125)


# What is refused


SPEC = RoundSpec("reference", "reference", True, TopFraction())


def test_refusals() -> None:
    stochastic, still = Gaussian(CosineSchedule(), "x0", (1,)), Gaussian(CosineSchedule(), "x0", (1,), eta=0.0)
    table = torch.zeros(9, 1, 2).double()
    objective = AnchoredShaping()
    objective.check(line(stochastic, 8, table, objective, upper_level=0.5).policy, SPEC)
    objective.check(line(still, 8, table, objective).policy, SPEC)
    for objective in (AnchoredShaping(), Shaping()):
        with pytest.raises(GraftError, match=r"biased at model.upper_level < 1 .* eta=1"):
            objective.check(line(still, 8, table, objective, upper_level=0.5).policy, SPEC)
    with pytest.raises(GraftError, match=r"model.level > 0 and model.upper_level < 1"):
        AnchoredShaping().check(line(still, 8, table, objective, upper_level=0.5, level=0.25).policy, SPEC)
    for scale in (0.0, -1.0, float("nan")):
        with pytest.raises(GraftError, match=r"model.objective.contrast_scale is"):
            AnchoredShaping(contrast_scale=scale)
    for start in (0.0, 1.5, -1.0):
        with pytest.raises(GraftError, match=r"model.upper_level is"):
            line(stochastic, 8, table, upper_level=start)
    with pytest.raises(GraftError, match=r"not below model.upper_level 0.5"):
        line(stochastic, 8, table, upper_level=0.5, level=0.5)
    spec = RoundSpec("current", "current", True, TopFraction(), replay_rounds=2)
    with pytest.raises(GraftError, match="replay_rounds=1"):
        AnchoredShaping().check(line(stochastic, 8, table, objective).policy, spec)
