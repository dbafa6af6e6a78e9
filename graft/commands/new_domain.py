"""Write the package of a new domain from templates: a class, a reward, two configurations, a test."""

import keyword
import re
from pathlib import Path

from graft.errors import GraftError
from graft.io.atomic import write_text

MODULE = '''"""{title}: a domain of graft. Objects are pairs of numbers; change them into yours."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Generator, Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric, Metric

from graft import GraftModule
from graft.io.csv_files import write_csv


class Network(nn.Module):
    """The network: (state, time (B,), condition) -> output of the state's shape."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        first = [nn.Linear(5, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()]
        self.net = nn.Sequential(*first, nn.Linear(width, 2))

    def forward(self, state: Tensor, time: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        side = condition["side"].to(state)[:, None]
        return self.net(torch.cat([state, time[:, None].to(state), side, side * state[:, :1]], 1))


class Radius(MeanMetric):
    """The mean distance of the objects from the origin."""

    def update(self, items: Sequence[Any]) -> None:
        for x, y in items:
            super().update(math.hypot(x, y))


class {title}(GraftModule):
    """What only this domain knows. A hook that is left out makes graft do less."""

    file_suffix = ".csv"

    def sample_conditions(self, count: int, generator: Generator) -> dict[str, Tensor]:
        return {{"side": torch.randint(2, (count,), generator=generator)}}  # what a sample is given

    def group(self, condition: Mapping[str, Tensor]) -> Tensor:
        return condition["side"]  # draws of one condition are ranked among themselves

    def decode(self, state: Tensor, condition: Mapping[str, Tensor]) -> list[Any]:
        return [tuple(point) for point in state.tolist()]  # one object for each state, whatever its quality

    def encode(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        points, side = batch  # a batch of the data set below, for graft pretrain
        return points, {{"side": side}}

    def key(self, item: Any) -> str:
        return ",".join(f"{{number:.3f}}" for number in item)  # equal keys are duplicates

    def features(self, items: Sequence[Any]) -> Tensor:
        return torch.tensor([list(item) for item in items], dtype=torch.float32).reshape(-1, 2)  # for distances

    def metrics(self) -> dict[str, Metric]:
        return {{"radius": Radius()}}

    def write(self, items: Sequence[Any], path: Path, rewards: "Sequence[float] | None" = None) -> None:
        if rewards is None:
            write_csv(path, ["x", "y"], items)
        else:
            rows = [[*item, reward] for item, reward in zip(items, rewards, strict=True)]
            write_csv(path, ["x", "y", "reward"], rows)


class Points(LightningDataModule):
    """The data set of graft pretrain: points on two sides."""

    def __init__(self, count: int = 2048, batch_size: int = 64) -> None:
        super().__init__()
        self.count, self.batch_size = count, batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        side = torch.randint(2, (self.count,))
        points = torch.stack([2.0 * side - 1, torch.zeros(self.count)], 1) + 0.5 * torch.randn(self.count, 2)
        return DataLoader(list(zip(points, side, strict=True)), self.batch_size, shuffle=True)  # type: ignore[arg-type]
'''
PACKAGE = '''"""{title}: a domain of graft, `module.{title}`."""
'''
REWARDS = '''"""Rewards. The file imports neither torch nor graft, so that the processes of a reward start at once."""

from typing import Any


def height(item: Any) -> float:
    """Return the reward of an object: any number, larger is better."""
    return float(item[1])
'''
MODEL = """model:
  class_path: domains.{name}.module.{title}
  init_args:
    backbone: {{class_path: domains.{name}.module.Network}}
    process:
      class_path: graft.process.Gaussian
      init_args: {{schedule: {{class_path: graft.process.CosineSchedule}}, prediction_type: v, shape: [2]}}
    steps: 16
"""
FIT = """# graft fit --config domains/{name}/{name}.yaml --model.weights runs/pretrain/1/reference.safetensors
{model}    level: 0.25  # the tuned network samples from noise to here, the reference the rest
data:
  reward: domains.{name}.rewards.height
  accept: {{class_path: graft.accept.TopFraction, init_args: {{fraction: 0.25}}}}
  draws: 1024
  steps_per_round: 200
trainer: {{max_epochs: 2}}
"""
PRETRAIN = """# graft pretrain --config domains/{name}/pretrain.yaml
{model}    optimizer: {{init_args: {{lr: 3.0e-3}}}}
data: {{class_path: domains.{name}.module.Points}}
trainer: {{max_epochs: 20}}
"""
PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "graft-{name}"
version = "0.1.0"
dependencies = ["graft-diffusion"]

[tool.hatch.build.targets.wheel]
packages = ["domains"]  # without an __init__.py, so that other packages can have domains, too
"""
TEST = '''"""The domain passes graft check."""

from pathlib import Path

import pytest

from graft.cli import main


@pytest.mark.parametrize("name", ["{name}", "pretrain"])
def test_check(name: str) -> None:
    config = Path(__file__).parents[1] / "domains/{name}" / f"{{name}}.yaml"
    assert main(["check", "--config", str(config)]) == 0
'''


def write_domain(name: str, folder: Path) -> Path:
    """Write the package of a domain, and return its folder.

    Args:
        name: Name of the domain, a Python name in lower case.
        folder: Folder of the package, which must be new or empty.

    Raises:
        GraftError: The name is no Python name, or the folder is not empty.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise GraftError(f"NAME is {name!r}; it must be a Python name in lower case, such as crystals")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GraftError(f"{folder} exists and is not empty; it must be new. Give another --folder.")
    title = "".join(part.capitalize() for part in name.split("_"))
    place = folder / "domains" / name
    words = {"name": name, "title": title}
    files = {
        place / "__init__.py": PACKAGE,
        place / "module.py": MODULE,
        place / "rewards.py": REWARDS,
        place / f"{name}.yaml": FIT,
        place / "pretrain.yaml": PRETRAIN,
        folder / "pyproject.toml": PROJECT,
        folder / "tests" / f"test_{name}.py": TEST,
    }
    model = MODEL.format(**words)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text.format(**words, model=model))
    return folder
