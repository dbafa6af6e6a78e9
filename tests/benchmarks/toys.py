"""Two toy domains whose references train in under a minute, for `levels.py` and `targets.py`.

`ring`: points in the plane, eight blobs of five spots each. `digits`: scikit-learn's 8x8 digits (pip install
scikit-learn). Each has a coarse, an intermediate and a fine reward, decided at different levels. References are trained
through `graft.pretrain` at the first use and cached in a temporary folder.
"""

import logging
import math
import os
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from unittest import mock

import torch
from lightning import LightningDataModule
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader, Dataset

import graft
from graft import GraftModule, Rollouts, SampleRequest
from graft.accept import TopFraction
from graft.cli import IGNORED_WARNINGS
from graft.core import seeding
from graft.domain import distance
from graft.process import CosineSchedule, Gaussian
from graft.reward import Reward, Scores
from graft.sampler import run_stages

sys.path.insert(0, str(Path(__file__).parents[1]))  # `trained` is shared with the tests
from trained import rollouts_of, training

FOLDER = Path(os.environ.get("GRAFT_BENCHMARKS", Path(tempfile.gettempdir()) / "graft-benchmarks"))
STEPS = 24  # of the sampler
FRACTION = 0.125  # accepted
JUDGED = 2048  # samples in a distance


class Net(nn.Module):
    """Residual layers on the state, its sines and the time.

    Args:
        dimension: Of the state.
        width: Of the hidden layers.
        depth: Number of them.
        waves: Of the sines of each coordinate, each half as long as the one before.
    """

    def __init__(self, dimension: int, width: int, depth: int, waves: int) -> None:
        super().__init__()
        self.waves = waves
        self.first = nn.Linear(dimension * (1 + 2 * waves) + 8, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.last = nn.Linear(width, dimension)

    def forward(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        clock = time.sqrt()[:, None] * math.pi * 2.0 ** torch.arange(4)  # the level: t is its square
        phase = [state * (math.pi / 2 * 2.0**k) for k in range(self.waves)]
        x = torch.cat([state, *map(torch.sin, phase), *map(torch.cos, phase), clock.sin(), clock.cos()], 1)
        h = self.first(x)
        for layer in self.layers:
            h = h + layer(nn.functional.silu(h))
        return self.last(nn.functional.silu(h))


class Toy(GraftModule):
    """Objects are the states' rows."""

    def sample_conditions(self, count, generator):
        return {"row": torch.zeros(count)}

    def decode(self, state, condition):
        return list(state)

    def encode(self, batch):
        return batch, {"row": torch.zeros(len(batch))}


class Vectorised(Reward):
    """A reward of many objects at once."""

    def values(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def score(self, item):
        return float(self.values(item[None])[0])

    def __call__(self, items):
        return Scores(self.values(torch.stack(list(items))).double().tolist()) if items else Scores([])


# The ring

ANGLES = torch.arange(8) * math.pi / 4
BLOBS = math.sqrt(2) * torch.stack([ANGLES.cos(), ANGLES.sin()], 1)
TURN = torch.arange(5) * 2 * math.pi / 5
SPOTS = 0.25 * torch.stack([TURN.cos(), TURN.sin()], 1)
SPREAD = 0.04


def ring(count: int, generator: Generator) -> Tensor:
    blob, spot = (torch.randint(n, (count,), generator=generator) for n in (8, 5))
    return BLOBS[blob] + SPOTS[spot] + SPREAD * torch.randn(count, 2, generator=generator)


class Place(Vectorised):
    """x."""

    name = "place"

    def values(self, x):
        return x[:, 0]


class Spot(Vectorised):
    """x less that of the nearest blob's centre."""

    name = "spot"

    def values(self, x):
        return (x - BLOBS[torch.cdist(x, BLOBS).argmin(1)])[:, 0]


class Within(Vectorised):
    """x less that of the nearest spot's centre."""

    name = "within"

    def values(self, x):
        centres = (BLOBS[:, None] + SPOTS).reshape(-1, 2)
        return (x - centres[torch.cdist(x, centres).argmin(1)])[:, 0]


# The digits


@cache
def _digits() -> Tensor:
    from sklearn.datasets import load_digits

    return torch.tensor(load_digits().data, dtype=torch.float32)


def digits(count: int, generator: Generator) -> Tensor:
    images = _digits()[torch.randint(1797, (count,), generator=generator)]
    return (images + torch.rand(images.shape, generator=generator) - 0.5) / 8 - 1  # whole numbers, made continuous


class Ink(Vectorised):
    """The mean pixel."""

    name = "ink"

    def values(self, x):
        return x.mean(1)


class Grain(Vectorised):
    """How far the pixels follow a checkerboard."""

    name = "grain"

    def values(self, x):
        return (x * (-1.0) ** (torch.arange(64) // 8 + torch.arange(64))).mean(1)


class Margin(Vectorised):
    """How blank the first and the last column are."""

    name = "margin"

    def values(self, x):
        return -(x.reshape(-1, 8, 8)[:, :, [0, 7]] + 1).abs().mean((1, 2))


TOYS = {
    "ring": {
        "data": ring,
        "net": {"dimension": 2, "width": 128, "depth": 3, "waves": 4},
        "steps": 6000,
        "rewards": {"place": Place, "spot": Spot, "within": Within},
        "scales": (0.05, 0.25, 1.0),
    },
    "digits": {
        "data": digits,
        "net": {"dimension": 64, "width": 256, "depth": 3, "waves": 0},
        "steps": 6000,
        "rewards": {"ink": Ink, "grain": Grain, "margin": Margin},
        "scales": (1.5, 3.0, 6.0),
    },
}


def module(toy: str, weights: "Path | None", eta: float = 1.0, **settings) -> Toy:
    net = TOYS[toy]["net"]
    process = Gaussian(CosineSchedule(), "v", (net["dimension"],), eta=eta, warp=2.0)
    settings = {"steps": STEPS, **training(1e-3, ema_decay=0.99), **settings}
    return Toy(Net(**net), process, str(weights) if weights else None, **settings)


class _Batches(Dataset):
    def __init__(self, make, steps: int) -> None:
        self.make, self.steps = make, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, index: int) -> Tensor:
        return self.make(256, seeding.make_generator(0, "data", index))


class Data(LightningDataModule):
    def __init__(self, toy: str) -> None:
        super().__init__()
        self.toy = toy

    def train_dataloader(self):
        return DataLoader(_Batches(TOYS[self.toy]["data"], TOYS[self.toy]["steps"]), batch_size=None)


def trainer(rounds: int = 1):
    return graft.trainer(rounds, accelerator="cpu", enable_progress_bar=False)


def reference(toy: str) -> Path:
    """The pretrained weights, trained now if they are not there."""
    path = FOLDER / toy / "reference.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        made = module(toy, None, **training(3e-3, warmup_steps=100, cosine=True, ema_decay=0.999))
        graft.pretrain(made, Data(toy), FOLDER / toy, trainer(), draws=128)
    return path


def drawn(toy: str, count: int, seed: int, eta: float = 1.0, record: tuple[float, ...] = ()):
    """A `Trajectory` of the reference."""
    made = module(toy, reference(toy), eta)
    condition = {"row": torch.zeros(count)}
    return run_stages(
        made.policy.sampling_stages("reference"), condition, STEPS, record, seeding.make_generator(seed, "benchmark")
    )


def best(values: Tensor) -> Tensor:
    """Positions of the accepted draws."""
    return values.argsort(descending=True)[: round(FRACTION * len(values))]


class Distribution:
    """The accepted distribution of a reward: fresh rejection samples of the reference, twice `JUDGED`.

    Attributes:
        base: Mean reward of the reference.
        gain: Accepted, more.
        floor: {distance: (mean, deviation)} of the one half of the samples to the other, over random halves.
    """

    def __init__(self, toy: str, reward: str, eta: float = 1.0) -> None:
        self.toy, self.score = toy, TOYS[toy]["rewards"][reward]()
        file = FOLDER / toy / f"{reward}_{eta:g}.pt"
        if file.exists():
            self.samples, self.base, self.gain, self.floor = torch.load(file)
            return
        x = torch.cat([drawn(toy, JUDGED, 10_000 + i, eta).state for i in range(round(2 / FRACTION))])
        values = self.score.values(x).double()
        self.samples = x[best(values)]
        self.base = float(values.mean())
        self.gain = float(values[best(values)].mean()) - self.base
        found = []
        for i in range(8):
            order = torch.randperm(len(self.samples), generator=seeding.make_generator(i, "halves"))
            found.append(self.between(self.samples[order[:JUDGED]], self.samples[order[JUDGED:]]))
        self.floor = {k: _spread([f[k] for f in found]) for k in found[0]}
        torch.save((self.samples, self.base, self.gain, self.floor), file)

    def share(self, x: Tensor) -> float:
        """Return the share of the accepted gain."""
        return (float(self.score.values(x).double().mean()) - self.base) / self.gain

    def to(self, x: Tensor) -> dict[str, float]:
        """Distances of `JUDGED` samples from it."""
        return self.between(self.samples[:JUDGED], x[:JUDGED])

    def between(self, a: Tensor, b: Tensor) -> dict[str, float]:
        """1000 times the squared MMD, of Gaussian kernels of several widths; 1000 times the Fréchet distance."""

        def kernel(p: Tensor, q: Tensor) -> Tensor:
            square = torch.cdist(p, q).square()
            return torch.stack([(-square / (2 * s**2)).exp() for s in TOYS[self.toy]["scales"]]).mean(0)

        return {"mmd": 1e3 * distance.mmd(a, b, kernel), "frechet": 1e3 * distance.frechet(a, b)}


def _spread(values: list[float]) -> tuple[float, float]:
    x = torch.tensor(values, dtype=torch.float64)
    return float(x.mean()), float(x.std())


def rollouts(reward: Reward, seed: int, draws: int = 512, steps: int = 400, **settings) -> Rollouts:
    """One round, of which an eighth is accepted."""
    return rollouts_of(
        reward,
        TopFraction(FRACTION),
        draws=draws,
        steps_per_round=steps,
        validation_draws=0,
        test_draws=128,
        save_round_weights=False,
        seed=seed,
        **settings,
    )


def tuned(made: Toy, data: Rollouts, folder: Path) -> Tensor:
    """Samples of the model after `graft.fit`."""
    with mock.patch("graft.commands.finetune.write_report"):  # the page is not read
        graft.fit(made, data, folder, trainer())
    return made.predict_step(SampleRequest({"row": torch.zeros(JUDGED)}, ("judged",))).state


def quiet() -> None:
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    for message in IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
