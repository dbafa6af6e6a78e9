"""A small domain, with networks, data and rewards that break as users' do; the command line finds this module by name.

`PLANE` is its configuration.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader

from graft import GraftModule
from graft.core.state import Condition, State
from graft.reward import BatchReward, Reward, Scores

PLANE = """
model:
  class_path: broken.Plane
  init_args:
    backbone: {class_path: broken.Network}
    process:
      class_path: graft.process.Gaussian
      init_args: {schedule: {class_path: graft.process.CosineSchedule}, prediction_type: v, shape: [2]}
    steps: 8
    optimizer: {init_args: {lr: 3.0e-3}}
trainer: {accelerator: cpu, enable_progress_bar: false, log_every_n_steps: 1}
"""


class Network(nn.Module):
    """Two layers."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        label = nn.functional.one_hot(condition["label"], 3)
        out: Tensor = self.layers(torch.cat([state, time[:, None].to(state), label.to(state)], 1))
        return out


class Points(LightningDataModule):
    """Points of three classes."""

    def __init__(self, count: int = 128, batch_size: int = 32) -> None:
        super().__init__()
        self.count, self.batch_size = count, batch_size

    def points(self) -> list[Any]:
        """Points and their classes."""
        label = torch.arange(self.count) % 3
        return list(zip(torch.randn(self.count, 2) + label[:, None], label, strict=True))

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.points(), self.batch_size, shuffle=True)


class Plane(GraftModule):
    """Objects are pairs of coordinates, their conditions are classes."""

    file_suffix = ".csv"

    def encode(self, batch: Any) -> tuple[State, Condition]:
        points, label = batch
        return points, {"label": label}

    def sample_conditions(self, count: int, generator: Generator) -> Condition:
        return {"label": torch.randint(3, (count,), generator=generator)}

    def group(self, condition: Condition) -> Tensor:
        return condition["label"]

    def decode(self, state: State, condition: Condition) -> list[Any]:
        assert isinstance(state, Tensor)
        return [(*point, label) for point, label in zip(state.tolist(), condition["label"].tolist(), strict=True)]

    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        Path(path).write_text("".join(f"{x},{y},{c}\n" for x, y, c in items))


class Right(Reward):
    """How far to the right a point lies."""

    def score(self, item: Any) -> float:
        return float(item[0])


class Zero(Reward):
    """A network that returns 0."""

    name = "zero"

    def score(self, item: Any) -> float:
        return 0.0


class NotANumber(Network):
    """Return NaN in one call of training, counted from 1; on one rank if a rank is given.

    Args:
        at: Number of the call.
        rank: Rank whose call it is; -1 for all.
        value: What it returns.
    """

    calls = 0  # of the class: what an instance holds is what its draws depend on

    def __init__(self, at: int = 3, rank: int = -1, value: float = math.nan) -> None:
        super().__init__()
        self.at, self.rank, self.value = at, rank, value
        NotANumber.calls = 0

    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        out = super().forward(state, time, condition)
        trains = self.training and torch.is_grad_enabled()  # not in the check of the reference
        NotANumber.calls += trains
        mine = self.rank in (-1, int(os.environ.get("RANK", "0")))
        return out * self.value if trains and mine and NotANumber.calls == self.at else out


class InfiniteGradient(Network):
    """A finite loss with a gradient that is not, from one call on."""

    calls = 0

    def __init__(self, at: int = 3) -> None:
        super().__init__()
        self.at = at
        InfiniteGradient.calls = 0

    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        out = super().forward(state, time, condition)
        trains = self.training and torch.is_grad_enabled()  # not in the check of the reference
        InfiniteGradient.calls += trains
        if trains and InfiniteGradient.calls >= self.at:
            out = out + (0 * out).sqrt()  # 0, with the derivative 0 * inf
        return out


class Overflows(Network):
    """Samples overflow below a level, on one rank where it is given; training knows nothing of it."""

    def __init__(self, below: float = 0.5, rank: int = -1) -> None:
        super().__init__()
        self.below, self.rank = below, rank

    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        out = super().forward(state, time, condition)
        mine = self.rank in (-1, int(os.environ.get("RANK", "0")))
        if not torch.is_grad_enabled() and mine:
            out = torch.where(time[:, None] < self.below, out * torch.inf, out)
        return out


class Masked(Network):
    """Has a buffer with −infinity, as masks of attention have."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((3, 3), -math.inf).triu(1))


class Holes(Points):
    """One point is NaN or infinite, in the training or in the validation data.

    Args:
        value: First coordinate of the point.
        held_out: It is in the validation data.
    """

    def __init__(self, value: float = math.nan, held_out: bool = False, count: int = 128) -> None:
        super().__init__(count)
        self.value, self.held_out = value, held_out

    def points(self) -> list[Any]:
        hole = [] if self.held_out else [(torch.tensor([self.value, 0.0]), torch.tensor(0))]
        return [*super().points(), *hole]

    def val_dataloader(self) -> Any:
        hole = [(torch.tensor([self.value, 0.0]), torch.tensor(0))] if self.held_out else []
        return DataLoader(hole, 1)


class Infinite(BatchReward):
    """A batched reward that returns infinity for some points."""

    def __call__(self, items: Any) -> Scores:
        return Scores([math.inf if x > 0 else x for x, *_ in items])


class AuxiliaryLoss(Plane):
    """A part of the loss is NaN in the third step, on the last rank, and has no gradient."""

    def auxiliary_loss(self, examples: Any, level: Tensor) -> "Tensor | None":
        last = self.global_rank == self.trainer.world_size - 1
        return torch.full_like(level, math.nan) if self.global_step == 2 and last else None


class Deaf(Plane):
    """Overrides every hook of Lightning, without a call of ``super()``."""

    def setup(self, stage: str) -> None: ...

    def configure_model(self) -> None: ...

    def configure_callbacks(self) -> list[Any]:
        return []

    def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None: ...


def _silent(self: Any, *args: Any, **kwargs: Any) -> None:
    """Do nothing."""


for _name in dir(Plane):
    if _name.startswith("on_") and not _name.endswith("_batch_transfer"):
        setattr(Deaf, _name, _silent)
