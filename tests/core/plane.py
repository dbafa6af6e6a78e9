"""Points in the plane as a user's whole domain: objects are lists, which code may edit in place."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn
from trained import rollouts_of

import graft
from graft import GraftModule, Rollouts
from graft.process import Gaussian, LinearSchedule


class Net(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        return self.net(torch.cat([state, torch.stack([time, (3 * math.pi * time).cos()], 1)], 1))


class Plane(GraftModule):
    file_suffix = ".csv"

    def sample_conditions(self, count: int, generator: Generator) -> dict[str, Tensor]:
        return {"row": torch.zeros(count)}

    def decode(self, state: Any, condition: dict[str, Tensor]) -> list[Any]:
        return [list(point) for point in state.tolist()]

    def write(self, items: Any, path: Path, rewards: Any = None) -> None:
        path.write_text("".join(f"{x!r},{y!r}\n" for x, y in items))


def weights(folder: Path) -> str:
    """Return a state dict of the network in a user's form."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(Net().state_dict(), folder / "net.pt")
    return str(folder / "net.pt")


def made(folder: Path, kind: type[Plane] = Plane, **settings: Any) -> Plane:
    settings = {"weights": weights(folder), "level": 0.25, "steps": 4, **settings}
    return kind(Net(), Gaussian(LinearSchedule(), "velocity", [2]), **settings)


def data(reward: Any, **settings: Any) -> Rollouts:
    small = {"draws": 32, "batch_size": 16, "train_batch_size": 8, "steps_per_round": 2}
    return rollouts_of(reward, **{**small, "validation_draws": 16, "test_draws": 32, **settings})


def trainer(rounds: int = 1) -> Any:
    return graft.trainer(rounds, accelerator="cpu", enable_progress_bar=False, log_every_n_steps=1)
