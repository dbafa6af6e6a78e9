"""GRAFT and P-GRAFT on a mixed state, a class and a place that depend on each other, through Rollouts and `graft.fit`.

The network is the exact posterior of p_k N(m_k, S) with p and m as its parameters, so that it learns a distribution:
the accepted one, p*_k ∝ p_k exp(w·m_k + b_k) and m*_k = m_k + S w for the reward w x + b_k and the tilt exp(reward).
"""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from discrete import noised, states_of
from torch import Generator, Tensor, nn
from trained import rollouts_of, training

import graft
from graft import GraftError, GraftModule, Objective, Rollouts, cli
from graft.accept import AcceptAll, ExponentialTilt
from graft.core.datatypes import Chunk, TrainingBatch
from graft.core.interval import Interval
from graft.objectives import AnchoredShaping, DiffusionNFT, PolicyGradient, ScoredRound, Shaping
from graft.process import (
    Categorical,
    CosineSchedule,
    Gaussian,
    MaskedCategorical,
    MultiFieldProcess,
    UniformCategorical,
)
from graft.reward import Reward
from graft.rollouts.settings import LevelSearch
from graft.sampler import Stage, run_stages

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's

STEPS, HANDOVER, SPREAD, SLOPE = 32, 0.25, 0.3, 1.2
SHARES, PLACES = (0.5, 0.3, 0.2), (-0.8, 0.1, 0.7)
BONUS = (0.6, -0.4, 0.0)
KINDS = [MaskedCategorical, UniformCategorical]


def f64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def tilted() -> tuple[Tensor, Tensor]:
    """(p*, m*)."""
    weight = f64(SHARES) * torch.exp(SLOPE * f64(PLACES) + f64(BONUS))
    return weight / weight.sum(), f64(PLACES) + SPREAD**2 * SLOPE


class Posterior(nn.Module):
    """The exact network of the distribution that its parameters say."""

    def __init__(self, process: MultiFieldProcess) -> None:
        super().__init__()
        self.process = process
        self.shares, self.places = nn.Parameter(f64(SHARES).log()), nn.Parameter(f64(PLACES))
        self.calls = 0

    def __deepcopy__(self, memo: Any) -> "Posterior":
        other = Posterior(self.process)
        other.load_state_dict(self.state_dict())
        return other

    def forward(self, state: dict[str, Tensor], time: Tensor, condition: dict[str, Tensor]) -> dict[str, Tensor]:
        self.calls += 1
        kind, place = self.process.fields["kind"], self.process.fields["place"]
        assert isinstance(kind, Categorical) and isinstance(place, Gaussian)
        u = time.double()
        alpha, sigma = (c[:, None] for c in place.alpha_sigma(u))
        variance = alpha**2 * SPREAD**2 + sigma**2
        x, seen = state["place"], state["kind"][:, 0]
        t = kind.time(u)[:, None]
        if isinstance(kind, MaskedCategorical):
            likely = torch.where(seen.sum(1, keepdim=True) > 0, seen, torch.ones_like(seen))
        else:
            likely = (1 - t) * seen + t / 3
        logits = self.shares + likely.clamp(min=1e-30).log() - (x - alpha * self.places) ** 2 / (2 * variance)
        means = self.places + alpha * SPREAD**2 / variance * (x - alpha * self.places)
        return {"kind": logits[:, None], "place": (logits.softmax(1) * means).sum(1, keepdim=True)}


class Line(GraftModule):
    """Objects are (class, place)."""

    def sample_conditions(self, count: int, generator: Generator) -> dict[str, Tensor]:
        return {"row": torch.zeros(count, dtype=torch.float64)}

    def decode(self, state: Any, condition: Any) -> list[Any]:
        return list(zip(state["kind"][:, 0].argmax(-1).tolist(), state["place"][:, 0].tolist(), strict=True))

    def features(self, items: Any) -> Tensor:
        return f64([[kind == 0, kind == 1, place] for kind, place in items])


class Sum(Reward):
    name = "sum"

    def score(self, item: Any) -> float:
        return min(SLOPE * item[1] + BONUS[item[0]], TOP)


TOP = 2.0  # 3 and more standard deviations above the mean of every class


def made(kind: type[Categorical], folder: Path, objective: "Objective | None" = None, **settings: Any) -> Line:
    process = MultiFieldProcess(
        {"kind": kind((1, 3)), "place": Gaussian(CosineSchedule(), "x0", (1,), snr_weight_clamp=(0.05, 2.0))}
    )
    network = Posterior(process)
    torch.save(network.state_dict(), folder / "base.pt")
    settings = {"level": HANDOVER, **training(0.03, cosine=True), **settings}
    return Line(network, process, str(folder / "base.pt"), steps=STEPS, objective=objective, **settings)


def trainer(rounds: int = 1) -> Any:
    return graft.trainer(rounds, accelerator="cpu", enable_progress_bar=False)


def rollouts(**settings: Any) -> Rollouts:
    plan = {"draws": 8192, "batch_size": 2048, "train_batch_size": 512, "steps_per_round": 150, "test_draws": 500}
    return rollouts_of(
        Sum(), ExponentialTilt(temperature=1.0, reward_bound=TOP), validation_draws=0, **{**plan, **settings}
    )


def shown(state: Any) -> tuple[Tensor, Tensor]:
    """(frequencies of the classes and of the mask, mean place of each)."""
    rows = torch.cat([state["kind"][:, 0], 1 - state["kind"][:, 0].sum(1, keepdim=True)], 1)
    return rows.mean(0), (rows * state["place"]).sum(0) / rows.sum(0).clamp(min=1e-9)


def at_handover(process: MultiFieldProcess, shares: Tensor, places: Tensor, level: float) -> tuple[Tensor, Tensor]:
    """Return the result of `shown` for the distribution of (shares, places), noised to ``level``."""
    kind, place = process.fields["kind"], process.fields["place"]
    assert isinstance(place, Gaussian)
    t, alpha = float(kind.time(level)), float(place.alpha_sigma(level)[0])
    mean = alpha * (shares @ places)
    if isinstance(kind, MaskedCategorical):
        return torch.cat([(1 - t) * shares, f64([t])]), torch.cat([alpha * places, mean[None]])
    chance = (1 - t) * shares + t / 3
    each = ((1 - t) * shares * alpha * places + t / 3 * mean) / chance
    return torch.cat([chance, f64([0.0])]), torch.cat([each, f64([0.0])])


def near(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], shares: float, places: float) -> bool:
    there = other[0] > 0
    gap = (one[1] - other[1]).abs()[there]
    return torch.allclose(one[0], other[0], atol=shares) and bool((gap < places).all())


@pytest.mark.parametrize(
    ("kind", "target", "level"),
    [
        pytest.param(MaskedCategorical, "transition", HANDOVER, marks=pytest.mark.slow),
        (MaskedCategorical, "trajectory", HANDOVER),
        (UniformCategorical, "transition", HANDOVER),
        (UniformCategorical, "auto", 0.0),
        (MaskedCategorical, "anchored", HANDOVER),
        pytest.param(UniformCategorical, "anchored", 0.0, marks=pytest.mark.slow),
    ],
)
def test_fit_learns_the_accepted_distribution(
    kind: type[Categorical], target: Any, level: float, tmp_path: Path
) -> None:
    """The real loss on the files of rounds, sampled from 1 to u*, gives the accepted distribution at u*.

    About 1400 accepted: standard errors of 0.013 (shares), of 0.03 (places of a class at u*, target (a)) and 0.02 (at
    0), and about as much from the training's own noise; 4.5 times both. The sampler's 32 steps add 0.01.
    """
    anchored = target == "anchored"
    module = made(kind, tmp_path, AnchoredShaping() if anchored else Shaping(target), level=level)
    data = rollouts()
    summary = graft.fit(module, data, tmp_path / "run", trainer())
    shares, places = tilted()
    assert summary["rounds"][0]["accepted"] > 1000
    scored = data.runner().scored_round(0)
    if anchored:
        assert len(scored.rewards) == 8192 and int((scored.weight > 0).sum()) == summary["rounds"][0]["accepted"]
    elif level:
        found, right = shown(scored.chunk.recorded[level]), at_handover(module.policy.process, shares, places, level)
        assert near(found, right, 0.06, 0.15)
    learned = module.policy.backbone
    assert torch.allclose(learned.shares.detach().softmax(0), shares, atol=0.08)
    assert torch.allclose(learned.places.detach(), places, atol=0.15)
    assert float((shares - f64(SHARES)).abs().max()) > 0.12  # there was something to learn
    condition = {"row": torch.zeros(20_000, dtype=torch.float64)}
    stages = [Stage(module.policy.process, learned, Interval(low=level))]
    drawn = run_stages(stages, condition, STEPS, generator=torch.Generator().manual_seed(3))
    assert drawn.denoiser_calls == STEPS - round(level * STEPS)  # one for both fields
    # against the learned parameters, within 4.5 standard errors and the steps' error
    right = at_handover(module.policy.process, learned.shares.detach().softmax(0), learned.places.detach(), level)
    found = shown(drawn.state)
    assert near(found, right, 0.03, 0.05)
    assert summary["objective"] == anchored * "anchored " + ("P-GRAFT" if level else "GRAFT")


def test_files_resume_and_store(tmp_path: Path) -> None:
    """Discrete fields lie in rounds like any other; another run takes the draws over."""
    first = rollouts(draws=512, batch_size=256, steps_per_round=2, record_levels=[0.125])
    graft.fit(made(MaskedCategorical, tmp_path), first, tmp_path / "run", trainer())
    chunk = first.runner().scored_round(0).chunk
    assert isinstance(chunk.state, dict) and set(chunk.recorded[HANDOVER]) == {"kind", "place"}
    assert bool((chunk.state["kind"].sum(-1) == 1).all())
    masked = chunk.recorded[HANDOVER]["kind"].sum(-1) == 0
    assert 0.1 < float(masked.double().mean()) < 0.4
    again = rollouts(draws=512, batch_size=256, steps_per_round=2, reuse_runs=[str(tmp_path / "run")])
    summary = graft.fit(made(MaskedCategorical, tmp_path, level=0.125), again, tmp_path / "again", trainer())
    assert summary["rounds"][0]["denoiser_calls"] == 0
    other = rollouts(draws=512, batch_size=256, steps_per_round=2, reuse_runs=[str(tmp_path / "run")])
    with pytest.raises(GraftError, match="process"):
        graft.fit(made(UniformCategorical, tmp_path), other, tmp_path / "other", trainer())


@pytest.mark.parametrize("kind", KINDS)
def test_levels(kind: type[Categorical], tmp_path: Path) -> None:
    """`graft levels` scores expected one-hots as the domain decodes them; the decided share falls with the level."""
    data = rollouts(level_search=LevelSearch((0.25, 0.75), draws=2000), batch_size=1000)
    found = graft.levels(made(kind, tmp_path), data, tmp_path / "run", trainer())
    low, high = found.levels[1:]
    assert (
        low.reward_r2.value > high.reward_r2.value + 0.1
        and low.measured_retention.value > high.measured_retention.value
    )
    assert low.score_gap.value > high.score_gap.value > 0
    assert json.loads((tmp_path / "run/levels.json").read_text())["stochastic"]


class Logits(nn.Module):
    """A network with any output at each level, for each state of one position."""

    def __init__(self, process: Categorical, steps: int) -> None:
        super().__init__()
        self.process, self.steps = process, steps
        random = torch.randn(steps + 1, 4, 3, dtype=torch.float64, generator=_generator(5))
        self.table = nn.Parameter(random)

    def __deepcopy__(self, memo: Any) -> "Logits":
        other = Logits(self.process, self.steps)
        other.load_state_dict(self.state_dict())
        return other

    def forward(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        place = torch.where(state[:, 0].sum(1) > 0, state[:, 0].argmax(1), 3)
        return self.table[(time * self.steps).round().long(), place][:, None]


@pytest.mark.parametrize("kind", KINDS)
def test_policy_gradient_is_unbiased(kind: type[Categorical], tmp_path: Path) -> None:
    """The estimate of the gradient has the mean of a chain whose distribution is a product of matrices.

    Up to 48 parameters at 4.5 standard errors of 40 batches: about 5 false alarms in 10,000 seeds.
    """
    steps, count, objective = 5, 1000, PolicyGradient(clip_range=1e6, steps_per_sample=0)
    process = kind((1, 3))
    network = Logits(process, steps)
    torch.save(network.state_dict(), tmp_path / "base.pt")
    module = Line(network, process, str(tmp_path / "base.pt"), 1 / steps, steps, objective=objective)
    worth, states = f64([1.0, -0.5, 0.3]), states_of(process)
    pairs = torch.cartesian_prod(torch.arange(len(states)), torch.arange(len(states)))
    distribution = noised(process, worth.softmax(0), 1.0)
    for i in range(steps, 0, -1):
        place = i / steps, (i - 1) / steps, {}
        output = process(network, states, i / steps, {})
        if i == 1:
            output = output.detach()  # the reference's step
        chance = process.log_prob(output[pairs[:, 0]], states[pairs[:, 0]], states[pairs[:, 1]], *place).exp()
        distribution = distribution @ chance.reshape(len(states), len(states))
    expected = distribution @ (states[:, 0] @ worth)
    (wanted,) = torch.autograd.grad(expected, network.table)
    found = []
    for seed in range(40):
        condition = {"row": torch.zeros(count, dtype=torch.float64)}
        with module.policy.eval_weights("current"):
            drawn = run_stages(
                module.policy.sampling_stages("tuned"),
                condition,
                steps,
                objective.record_levels(module.policy),
                _generator(seed),
            )
        reward = drawn.state[:, 0] @ worth
        scored = ScoredRound(
            Chunk(drawn.state, drawn.states, condition), reward, torch.arange(count), torch.ones(count), "current"
        )
        examples = objective.training_batch(module.policy, scored)
        examples.weight = reward - expected.detach()
        loss, shown = objective.loss(module.policy, examples, _generator(seed))
        assert shown["ratio_clipped"] == 0 and abs(float(shown["old_kl"])) < 1e-12
        found.append(-(steps - 1) * torch.autograd.grad(loss, network.table)[0])
    each = torch.stack(found).flatten(1)
    error = each.std(0) / math.sqrt(len(each))
    moving = error > 1e-9
    assert int(moving.sum()) >= 12 and bool((wanted.flatten()[~moving].abs() < 1e-9).all())
    off = ((each.mean(0) - wanted.flatten()) / error)[moving].abs()
    assert bool((off < 4.5).all())
    assert bool((wanted.flatten()[moving].abs() / error[moving] > 10).any())  # and it could have failed


@pytest.mark.parametrize("kind", KINDS)
def test_diffusion_nft_is_least_at_its_theorem(kind: type[Categorical]) -> None:
    """For probabilities too the minimum is at old + E[(2r − 1)(x_0 − old) | x_u] / β."""
    process, beta, level = kind((1, 3)), 2.0, f64([0.6])
    clean = torch.eye(3, dtype=torch.float64)[:, None]
    chance, r = f64([0.5, 0.3, 0.2]), f64([0.9, 0.4, 0.2])  # of x_0 given some x_u, and of being good
    old = (chance[:, None, None] * clean).sum(0, keepdim=True)
    best = old + ((2 * r - 1) * chance)[:, None, None].mul(clean - old).sum(0, keepdim=True) / beta
    assert bool((best > 0).all()) and float(best.sum()) == pytest.approx(1)
    logits = best.log().requires_grad_()
    new = logits.softmax(-1)

    def error(sign: float) -> Tensor:
        policy = (old + sign * beta * (new - old)).expand(3, -1, -1)
        return process.x0_error(policy, clean, level.expand(3))

    (slope,) = torch.autograd.grad((chance * (r * error(1) + (1 - r) * error(-1))).sum(), logits)
    assert float(slope.abs().max()) < 1e-12


@pytest.mark.parametrize("objective", [PolicyGradient(), DiffusionNFT()], ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_other_objectives_gain(kind: type[Categorical], objective: Any, tmp_path: Path) -> None:
    """Through `graft.fit`, three rounds of the current model's own draws."""
    module = made(kind, tmp_path, type(objective)(), level=0.125, **training(0.02, cosine=True))
    data = rollouts_of(
        Sum(), AcceptAll(), source="current", draws=1024, batch_size=1024, train_batch_size=256, steps_per_round=20,
        validation_draws=0, test_draws=2000,
    )  # fmt: skip
    summary = graft.fit(module, data, tmp_path / "run", trainer(3))
    gap = summary["tuned"]["reward"] - summary["reference"]["reward"]
    assert gap > 4.5 * math.hypot(summary["tuned"]["reward_stderr"], summary["reference"]["reward_stderr"])


def test_interpolation_of_weights_and_one_call(tmp_path: Path) -> None:
    module = made(MaskedCategorical, tmp_path)
    with torch.no_grad():
        module.policy.backbone.places += 1
    module.interpolate(0.25)
    assert torch.allclose(module.policy.backbone.places.detach(), f64(PLACES) + 0.25)
    before = module.policy.backbone.calls
    state = module.policy.process.prior({"row": torch.zeros(5, dtype=torch.float64)}, _generator(0))
    examples = TrainingBatch(state, {"row": torch.zeros(5, dtype=torch.float64)})
    state["kind"][:, 0, 0] = 1
    assert bool(module.policy.loss(examples, _generator(0)).isfinite())
    assert module.policy.backbone.calls == before + 1


def _generator(seed: int) -> Generator:
    return torch.Generator().manual_seed(seed)
