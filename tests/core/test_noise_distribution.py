"""Shaping the noise in closed form: distributions of the accepted noise, of the corrected noise and of the data.

The base is the exact deterministic flow of a Gaussian in so many steps, an affine map x = A z + b of its noise. A
linear reward w·x then tilts the noise to N(Aᵀw / temperature, 1), and the noise of the winner of two draws has, along
a = Aᵀw / |Aᵀw|, the density 2 φ(s) Φ(s) of mean 1/√π and variance 1 − 1/π, and is standard normal across it.
"""

import math
from pathlib import Path

import pytest
import torch
from exact import Exact, Moments, extrapolate, f64, fit_affine, gap, normal, propagate, root, rows, whitened
from lightning.pytorch import Trainer
from line import Line, Table, table_of
from torch import Tensor
from trained import rollouts_of, training

import graft
from graft import GraftError, GraftModule, cli
from graft.accept import AcceptanceRule, ExponentialTilt, Preference
from graft.commands import sample_chunks
from graft.core.datatypes import TrainingBatch
from graft.core.seeding import make_generator
from graft.io.tensors import read_tensors
from graft.network.corrector import GaussianCorrector, NoiseCorrector
from graft.process import (
    CosineSchedule,
    Gaussian,
    LinearSchedule,
    MaskProjection,
    MultiFieldProcess,
    PolynomialSchedule,
    Process,
    TrigFlow,
    ZeroCenterOfMass,
)
from graft.reward import Reward
from graft.sampler import Stage, run_stages

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's

DATA = normal(f64([0.6, -0.4]), f64([[0.8, 0.3], [0.3, 0.5]]))
WEIGHT = f64([0.9, 0.5])
BASE = Gaussian(LinearSchedule(), "velocity", (2,), eta=0.0)
STEPS = 16
STANDARD: Moments = (torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64))


def affine(process: Process, model: Exact, steps: int) -> tuple[Tensor, Tensor]:
    """(A, b) of the sampler's map from noise to data."""
    z = torch.cat([torch.zeros(1, 2), torch.eye(2)]).double()
    x = run_stages([Stage(process, model)], rows(3), steps, state=z).state
    assert isinstance(x, Tensor)
    return (x[1:] - x[0]).mT, x[0]


A, B = affine(BASE, Exact(BASE, DATA), STEPS)


def tilted(temperature: float = 1.0) -> Moments:
    return A.mT @ WEIGHT / temperature, torch.eye(2, dtype=torch.float64)


def preferred() -> Moments:
    a = A.mT @ WEIGHT
    a = a / a.norm()
    return a / math.sqrt(math.pi), torch.eye(2, dtype=torch.float64) - torch.outer(a, a) / math.pi


def pushed(noise: Moments) -> Moments:
    """Return the moments of the data that the base makes of noise."""
    return A @ noise[0] + B, A @ noise[1] @ A.mT


DISTRIBUTIONS = {"tilt": tilted(), "preference": preferred()}
CORRECTORS: list[Process] = [
    TrigFlow((2,)),
    Gaussian(LinearSchedule(), "velocity", (2,), eta=0.0),
    Gaussian(CosineSchedule(), "v", (2,), eta=1.0),
    Gaussian(PolynomialSchedule(offset=1e-10), "x0", (2,), eta=0.0, warp=2.0),
]


@pytest.mark.parametrize("process", CORRECTORS, ids=lambda p: type(p).__name__ + type(p.schedule).__name__)
@pytest.mark.parametrize("rule", DISTRIBUTIONS)
def test_corrector_reaches_the_distribution_of_the_accepted_noise(process: Gaussian, rule: str) -> None:
    """The noise of the least-squares affine corrector, and the base's data, have the accepted moments up to its steps.

    For the tilt, whose accepted distribution is Gaussian, these are the distributions themselves.
    """
    distribution = DISTRIBUTIONS[rule]
    z = whitened(64, 4)
    noise = distribution[0] + z[:, :2] @ root(distribution[1]).mT
    reached = [
        propagate(process, fit_affine(process, noise, z[:, 2:], steps, 0.0), STANDARD, steps) for steps in (60, 120)
    ]
    assert gap(STANDARD, distribution) > 0.3  # there is something to learn
    assert gap(reached[1], distribution) < 0.62 * gap(reached[0], distribution) < 0.1
    assert gap(extrapolate(*reached), distribution) < 5e-3  # of second order
    assert gap(pushed(extrapolate(*reached)), pushed(distribution)) < 5e-3


def test_accepted_data_are_the_tilted_data() -> None:
    """Tilted noise gives the base's distribution N(b, A Aᵀ), tilted by the same reward; its limit is the data's."""
    mean, cov = pushed(tilted())
    assert torch.allclose(mean, B + A @ A.mT @ WEIGHT) and torch.allclose(cov, A @ A.mT)
    distributions = []
    for steps in (200, 400):
        a, b = affine(BASE, Exact(BASE, DATA), steps)
        distributions.append((b + a @ a.mT @ WEIGHT, a @ a.mT))
    accepted = DATA.means[0] + DATA.covs[0] @ WEIGHT, DATA.covs[0]
    assert gap(extrapolate(*distributions), accepted) < 1e-3


@pytest.mark.parametrize("count", [1, 7])
def test_rotation_leaves_the_prior_to_a_network_that_says_nothing(count: int) -> None:
    """An untrained corrector is the reference for any number of steps; DDIM on the same path shrinks the noise."""
    z = torch.randn(50, 2, dtype=torch.float64, generator=make_generator(0))

    def silent(state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        return torch.zeros_like(state)

    kept = run_stages([Stage(TrigFlow((2,)), silent)], rows(50), count, state=z).state
    shrunk = run_stages([Stage(Gaussian(CosineSchedule(), "v", (2,), eta=0.0), silent)], rows(50), count, state=z).state
    assert torch.allclose(kept, z, rtol=0, atol=1e-14)
    assert torch.allclose(shrunk, z * math.cos(math.pi / 2 / count) ** count, rtol=0, atol=1e-14)


def test_rotation_is_inverted() -> None:
    process = TrigFlow((2,))
    model = Exact(process, DATA)
    z = torch.randn(20, 2, dtype=torch.float64, generator=make_generator(0))
    down = run_stages([Stage(process, model)], rows(20), 24, state=z).state
    up = run_stages([Stage(process, model, upwards=True)], rows(20), 24, state=down).state
    assert torch.allclose(up, z, rtol=0, atol=1e-9)


@pytest.mark.parametrize("rule", DISTRIBUTIONS)
def test_fitted_gaussian_has_the_moments_of_its_examples(rule: str) -> None:
    """The fit is exact in one step, and weights count as copies do."""
    distribution = DISTRIBUTIONS[rule]
    noise = distribution[0] + whitened(64, 2) @ root(distribution[1]).mT
    twice = torch.cat([noise[:32], noise[:32], noise[32:]])
    weight = torch.cat([torch.ones(32), torch.full((32,), 0.5)])
    reached = []
    for parts in (
        [TrainingBatch(noise, rows(64))],
        [TrainingBatch(twice, rows(96), torch.ones(96))],
        [TrainingBatch(noise[:20], rows(20), weight[:20]), TrainingBatch(noise[20:], rows(44), weight[20:])],
    ):
        corrector = GaussianCorrector()
        corrector.check_compatible(BASE)
        corrector.fit(parts)
        with torch.no_grad():
            reached.append(propagate(corrector.process, corrector.backbone, STANDARD, corrector.steps))
    assert gap(reached[0], distribution) < 1e-6
    assert gap(reached[1], reached[2]) < 1e-6 and gap(reached[0], reached[1]) > 0.01


# Through the real thing


class Linear(Reward):
    """w·x."""

    name = "linear"

    def score(self, item: tuple[float, float]) -> float:
        return float(WEIGHT @ f64(item))


def module(corrector: NoiseCorrector, folder: Path, **settings: object) -> Line:
    """The base with a corrector, in float64."""
    table = Table(BASE, STEPS, table_of(BASE, STEPS, Exact(BASE, DATA)))
    torch.save(table.state_dict(), folder / "base.pt")
    return Line(table, BASE, str(folder / "base.pt"), steps=STEPS, corrector=corrector, **settings)


def trainer(rounds: int = 1) -> Trainer:
    return graft.trainer(rounds, accelerator="cpu", enable_progress_bar=False, gradient_clip_val=None)


def moments(x: Tensor) -> Moments:
    return x.mean(0), x.mT.cov()


def near(x: Tensor, distribution: Moments, errors: float = 4.5) -> bool:
    """The sample's moments lie within so many standard errors (of a Gaussian's covariances) of the distribution's."""
    mean, cov = moments(x)
    spread = distribution[1].diagonal()
    of_mean = (spread / len(x)).sqrt()
    of_cov = ((spread[:, None] * spread + distribution[1] ** 2) / len(x)).sqrt()
    return bool(
        ((mean - distribution[0]).abs() < errors * of_mean).all()
        and ((cov - distribution[1]).abs() < errors * of_cov).all()
    )


@pytest.mark.parametrize(
    ("rule", "distribution"),
    [(ExponentialTilt(temperature=1.5, deduplicate=False), tilted(1.5)), (Preference(deduplicate=False), preferred())],
    ids=["tilt", "preference"],
)
def test_fit_with_a_fitted_gaussian(rule: AcceptanceRule, distribution: Moments, tmp_path: Path) -> None:
    """Accepted noise, the corrector's noise and the tuned model's data have the moments of the theory.

    8192 draws; 4.5 standard errors of 5 figures each.
    """
    if isinstance(rule, ExponentialTilt):
        rule.reward_bound = 6.0  # |w·x| of 8192 draws stays below it
    made = module(GaussianCorrector(), tmp_path)
    data = rollouts_of(
        Linear(), rule, draws=8192, batch_size=1024, steps_per_round=1, validation_draws=0, test_draws=8192
    )
    summary = graft.fit(made, data, tmp_path / "run", trainer())
    scored = data.runner().scored_round(0)
    noise = scored.chunk.recorded[1.0]
    assert isinstance(noise, Tensor)
    assert near(noise, distribution)
    assert torch.allclose(noise @ A.mT + B, scored.chunk.state)  # the noise of these very samples
    x = f64(made.evaluators["tuned"].items)
    assert near(x, pushed(moments(noise)))
    assert gap(moments(x), pushed(distribution)) < 0.08
    assert summary["objective"] == "noise shaping" and summary["level"] == 1
    assert summary["denoiser_calls"] == 8192 * STEPS
    assert summary["evaluation_denoiser_calls"] == 8192 * (2 * STEPS + 1)


def test_trained_corrector_and_its_files(tmp_path: Path) -> None:
    """A corrector that is affine at each level learns the tilt by gradient; its file is all it takes to draw."""
    steps = 12
    process = TrigFlow((2,))
    corrector = NoiseCorrector(process, Table(process, steps, torch.zeros(steps + 1, 2, 3, dtype=torch.float64)), steps)
    made = module(corrector, tmp_path, **training(0.02, cosine=True, ema_decay=0.9))
    before = {name: p.clone() for name, p in made.policy.reference.named_parameters()}
    rule = ExponentialTilt(temperature=1.5, reward_bound=6.0, deduplicate=False)
    data = rollouts_of(
        Linear(), rule, draws=8192, batch_size=1024, train_batch_size=256, steps_per_round=400, validation_draws=0,
        test_draws=4096,
    )  # fmt: skip
    summary = graft.fit(made, data, tmp_path / "run", trainer())
    noise = data.runner().scored_round(0).chunk.recorded[1.0]
    assert isinstance(noise, Tensor)
    # by how much 12 steps of Euler's method miss the distribution, a corrector that is trained to the end misses it too
    best = fit_affine(process, *_known(noise), steps, 0.0)
    found = f64(made.evaluators["tuned"].items)
    assert gap(moments(found), pushed(propagate(process, best, STANDARD, steps))) < 0.08
    assert 0.85 < summary["gain"]["of_accepted"] < 1.15
    assert all(torch.equal(p, before[name]) for name, p in made.policy.reference.named_parameters())
    weights = read_tensors(tmp_path / "run/tuned.safetensors")
    assert list(weights[0]) == ["backbone/table"] and weights[1]["reference"]["path"] == "base.pt"
    checkpoint = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert {name.split(".")[1] for name in checkpoint["state_dict"]} == {"backbone", "ema"}
    again = module(
        NoiseCorrector(process, Table(process, steps, torch.ones(steps + 1, 2, 3, dtype=torch.float64)), steps),
        tmp_path,
    )
    again.load_weights(tmp_path / "run/tuned.safetensors")
    drawn = [item for items, _ in sample_chunks(again, trainer(), 300) for item in items]
    assert drawn == [item for items, _ in sample_chunks(made, trainer(), 300) for item in items]


def _known(noise: Tensor) -> tuple[Tensor, Tensor]:
    """Examples of those moments, and training noise, with nothing left to chance."""
    mean, cov = moments(noise)
    z = whitened(64, 4)
    return mean + z[:, :2] @ root(cov).mT, z[:, 2:]


def test_inverse_noise_correction_is_another_source(tmp_path: Path) -> None:
    """Inverted real data are training examples like others: a loader of them is enough.

    The data are not the base's own distribution; with the corrector they are what is drawn.
    """
    real = DATA.means[0] + 0.4 + 1.3 * (whitened(512, 2) @ root(DATA.covs[0]).mT)
    made = module(GaussianCorrector(), tmp_path)
    back = run_stages([Stage(BASE, made.policy.reference_forward, upwards=True)], rows(512), STEPS, state=real)
    examples = TrainingBatch(back.state, rows(512))
    assert made.policy.corrector is not None
    made.policy.corrector.fit([examples])
    loader = torch.utils.data.DataLoader([examples], batch_size=None)
    trainer().fit(made, loader)
    drawn = f64([item for items, _ in sample_chunks(made, trainer(), 8192, chunk=1024) for item in items])
    assert near(drawn, (real.mean(0), real.mT.cov(correction=0)))


# Restricted spaces

COUNTS = torch.tensor([2, 3, 5, 5, 4, 3])
CONDITION = {"mask": (torch.arange(5) < COUNTS[:, None]).double()}
ATOMS = MultiFieldProcess(
    {
        "x": Gaussian(PolynomialSchedule(), "x0", (5, 3), eta=0.0, projection=ZeroCenterOfMass()),
        "h": Gaussian(PolynomialSchedule(), "x0", (5, 4), eta=0.0, projection=MaskProjection()),
    }
)


class Unrestricted(torch.nn.Module):
    """A network whose output leaves every subspace."""

    def forward(self, state: dict[str, Tensor], time: Tensor, condition: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: 0.3 * field.roll(1, 1) + 0.7 for name, field in state.items()}


class Seen:
    """A network, and the states of its calls."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.network, self.states = network, list[dict[str, Tensor]]()

    def __call__(self, state: dict[str, Tensor], time: Tensor, condition: dict[str, Tensor]) -> dict[str, Tensor]:
        self.states.append(state)
        answer: dict[str, Tensor] = self.network(state, time, condition)
        return answer


@pytest.mark.parametrize("kind", ["flow", "gaussian"])
def test_restricted_spaces_hold_through_the_corrector(kind: str) -> None:
    """Padding stays 0 and the centre of mass stays at 0, in training and sampling, for any output of the network."""
    process = MultiFieldProcess({"x": TrigFlow((5, 3), ZeroCenterOfMass()), "h": TrigFlow((5, 4), MaskProjection())})
    corrector = NoiseCorrector(process, Unrestricted(), 5) if kind == "flow" else GaussianCorrector()
    corrector.check_compatible(ATOMS)
    noise = ATOMS.prior(CONDITION, make_generator(1))
    corrector.fit([TrainingBatch({n: f + 1 for n, f in noise.items()}, CONDITION)])  # as if of no subspace
    flow, base = Seen(corrector.backbone), Seen(Unrestricted())
    stages = [Stage(corrector.process, flow, steps=corrector.steps), Stage(ATOMS, base)]
    drawn = run_stages(stages, CONDITION, 4, [1.0, 0.5], make_generator(2))
    assert drawn.denoiser_calls == corrector.steps + 4
    level = torch.linspace(0.1, 1, 6, dtype=torch.float64)
    with torch.no_grad():
        corrector.process.loss(flow, noise, level, 0.0, CONDITION, generator=make_generator(3))
    gone = 1 - CONDITION["mask"][..., None]
    for state in (drawn.state, *drawn.states.values(), *flow.states, *base.states):
        assert isinstance(state, dict)
        assert all(float((field * gone).abs().max()) == 0 for field in state.values())
        assert float(state["x"].sum(1).abs().max()) < 1e-5 < float(state["x"].abs().max())


# Refusals


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"level": 0.5}, "model.level is 0.5, but model.corrector shapes the noise"),
        ({"level": 1}, "model.level is 1, but model.corrector shapes the noise"),
        ({"level": "auto"}, "model.level is 'auto', but model.corrector shapes the noise"),
        ({"corrector": None, "level": 1}, "To shape the noise itself, give model.corrector"),
        ({"weights": None}, "give model.weights"),
        ({"process": Gaussian(LinearSchedule(), "velocity", (2,))}, "set eta=0"),
        (
            {"corrector": NoiseCorrector(TrigFlow((3,)), torch.nn.Identity())},
            "the shape of a state is 3 there and 2 here",
        ),
        (
            {"corrector": NoiseCorrector(TrigFlow((2,), MaskProjection()), torch.nn.Identity())},
            "the projection of a state is MaskProjection there and none here",
        ),
        (
            {"corrector": NoiseCorrector(MultiFieldProcess({"x": TrigFlow((2,))}), torch.nn.Identity())},
            "the shape of a state is nothing there",
        ),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(next(iter(value))),
)
def test_refusals(settings: dict[str, object], words: str, tmp_path: Path) -> None:
    table = Table(BASE, STEPS, table_of(BASE, STEPS, Exact(BASE, DATA)))
    torch.save(table.state_dict(), tmp_path / "base.pt")
    usual = {
        "process": BASE,
        "weights": str(tmp_path / "base.pt"),
        "steps": STEPS,
        "corrector": GaussianCorrector(),
    }
    with pytest.raises(GraftError, match=words):
        Line(table, **{**usual, **settings})


def test_steps_of_a_corrector() -> None:
    with pytest.raises(GraftError, match="steps is 0"):
        NoiseCorrector(TrigFlow((2,)), torch.nn.Identity(), 0)


def test_no_interpolation(tmp_path: Path) -> None:
    made = module(GaussianCorrector(), tmp_path)
    assert isinstance(made, GraftModule)
    with pytest.raises(GraftError, match="another network"):
        made.interpolate(0.5)
