"""A mixture of three Gaussians in the plane: a whole domain, as a third party would write it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader

from graft import GraftModule
from graft.core.state import Condition, State
from graft.reward import Reward

CENTRES = torch.tensor([[-2.0, 0.0], [1.0, 1.5], [1.0, -1.5]])


class Network(nn.Module):
    """Any network will do that takes (state, time, condition) and gives something of the state's shape."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.last = nn.Linear(width, 2)

    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        label = nn.functional.one_hot(condition["label"], 3)
        return self.last(self.layers(torch.cat([state, time[:, None].to(state), label.to(state)], 1)))


class Points(LightningDataModule):
    """The data: points and the number of the Gaussian that each is from."""

    def __init__(self, count: int = 256, batch_size: int = 64) -> None:
        super().__init__()
        self.count, self.batch_size = count, batch_size

    def train_dataloader(self) -> DataLoader:
        label = torch.randint(3, (self.count,))
        points = CENTRES[label] + 0.5 * torch.randn(self.count, 2)
        return DataLoader(list(zip(points, label, strict=True)), self.batch_size, shuffle=True)


class Rightmost(Reward):
    """How far to the right a point lies."""

    name, unit = "x", "m"

    def score(self, item: tuple[float, float]) -> float:
        return item[0]


class Mixture(GraftModule):
    """A domain of the toy mixture. Objects are pairs of coordinates."""

    reward = "domains.mixture.Rightmost"
    file_suffix = ".csv"

    def encode(self, batch: Any) -> tuple[State, Condition]:
        points, label = batch
        return points, {"label": label}

    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        return {"label": torch.randint(3, (count,), generator=generator)}

    def group(self, condition: Condition) -> Tensor:
        return condition["label"]

    def decode(self, state: State, condition: Condition) -> list[tuple[float, ...]]:
        assert isinstance(state, Tensor)
        return [tuple(point) for point in state.tolist()]

    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        Path(path).write_text("".join(f"{x:.6f},{y:.6f}\n" for x, y in items))
