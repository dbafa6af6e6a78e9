"""Runs from Python keep a configuration: they resume from the command line and the other way round, and stay."""

import json
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from called import QUIET, done, run
from lightning.pytorch import Callback
from safetensors.torch import load_file
from trained import rollouts_of, training

import graft
from graft import GraftError, cli
from graft.optimizers import FusedAdamW
from graft.process import Gaussian, LinearSchedule
from graft.reward import FunctionReward, WeightedSum
from graft.runs.config_of_objects import configuration
from graft.runs.python_config import MISSING

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's

MODULE = """
import torch
from torch import nn
from graft import GraftModule
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

class Net(nn.Module):
    def __init__(self, width: int = 4, depth: int = 1):
        super().__init__()
        self.depth = depth
        self.net = nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, 2))

    def forward(self, state, time, condition):
        return self.net(torch.cat([state, time[:, None]], 1))

class Wide(Net):
    def __init__(self, size: int):
        super().__init__(width=size)

class Dots(GraftModule):
    file_suffix = ".csv"

    def sample_conditions(self, count, generator):
        return {"row": torch.zeros(count)}

    def decode(self, state, condition):
        return [tuple(point) for point in state.tolist()]

    def encode(self, batch):
        return batch, {"row": torch.zeros(len(batch))}

    def write(self, items, path, rewards=None):
        path.write_text("".join(f"{x},{y}\\n" for x, y in items))

class Data(LightningDataModule):
    def __init__(self, count: int = 32, scale: float = 1.0):
        super().__init__()
        self.count, self._scale = count, scale

    def train_dataloader(self):
        return DataLoader(self._scale * torch.randn(self.count, 2), 8)

def right(point):
    return point[0]
"""


@pytest.fixture(autouse=True)
def dots(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A user's module in the current folder."""
    (folder / "dots.py").write_text(MODULE)
    monkeypatch.syspath_prepend(folder)
    import dots  # type: ignore[import-not-found]

    torch.manual_seed(0)
    torch.save(dots.Net().state_dict(), "net.pt")
    yield dots
    sys.modules.pop("dots")


class Stop(Callback):
    """Ends a run in its second round."""

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 3:
            raise RuntimeError("stopped")


def module(dots: Any, **settings: Any) -> Any:
    settings = {"weights": "net.pt", "level": 0.25, "steps": 4, **settings}
    return dots.Dots(settings.pop("backbone", dots.Net()), Gaussian(LinearSchedule(), "velocity", [2]), **settings)


def data(reward: Any = None, **settings: Any) -> graft.Rollouts:
    small = {"draws": 16, "batch_size": 8, "train_batch_size": 4, "steps_per_round": 2, "alarms": None}
    return rollouts_of(
        FunctionReward("dots.right", timeout=None) if reward is None else reward,
        **{**small, "validation_draws": 0, "test_draws": 16, **settings},
    )


def trainer(*callbacks: Callback) -> Any:
    more = {"callbacks": list(callbacks)} if callbacks else {}
    return graft.trainer(2, accelerator="cpu", enable_progress_bar=False, log_every_n_steps=1, **more)


def stopped(dots: Any, name: str, **settings: Any) -> Path:
    """A run that ends in its second round; the callback is not part of it."""
    given = trainer()
    given.callbacks.append(Stop())
    with pytest.raises(RuntimeError, match="stopped"):
        graft.fit(module(dots), data(**settings), name, given)
    return Path(name)


def same(a: Path, b: Path) -> bool:
    first, second = (load_file(path / "tuned.safetensors") for path in (a, b))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_from_python_to_the_command_line(dots: Any) -> None:
    """Bit by bit what an uninterrupted run gives; with other settings it is refused; its weights are sampled."""
    graft.fit(module(dots), data(), "whole", trainer())
    folder = stopped(dots, "run")
    go_on = ["fit", "--config", folder / "config.yaml", "--run_dir", folder, "--ckpt_path", "last"]
    assert "data.draws" in run(*go_on, "--data.draws", 24).message
    done(*go_on)
    assert same(folder, Path("whole"))
    for name in ("whole", "run"):
        done("sample", "--weights", name, "--trust", "-n", 4, "--out", f"{name}.csv")
    assert Path("whole.csv").read_text() == Path("run.csv").read_text() != ""


def test_from_the_command_line_to_python(dots: Any) -> None:
    """Through graft.load, or with objects made by hand."""
    graft.fit(module(dots), data(), "whole", trainer())
    folder = stopped(dots, "run")
    shutil.copy(folder / "config.yaml", "own.yaml")
    done("fit", "--config", "own.yaml", "--run_dir", "cli")
    for name in ("loaded", "made"):
        shutil.copytree("cli", name)
        (Path(name) / "summary.json").unlink()
    before = (Path("cli") / "config.yaml").read_text()
    graft.fit(*graft.load("own.yaml")[:2], "loaded", graft.load("own.yaml")[2], checkpoint="last")
    graft.fit(module(dots), data(), "made", trainer(), checkpoint="last")
    for name in ("loaded", "made"):
        assert same(Path(name), Path("whole")) and (Path(name) / "config.yaml").read_text() == before
    (Path("made") / "summary.json").unlink()
    with pytest.raises(GraftError, match=r"data\.draws=16, now it is 24"):
        graft.fit(module(dots), data(draws=24), "made", trainer(), checkpoint="last")


def test_what_no_file_can_say(dots: Any) -> None:
    """A lambda, a network with unknown arguments and a callback: the message states what to give."""
    folder = stopped(dots, "run", reward=lambda point: point[0])
    text = (folder / "config.yaml").read_text()
    assert f"{MISSING}data.reward (lambda)" in text
    go_on = ["fit", "--config", folder / "config.yaml", "--run_dir", folder, "--ckpt_path", "last"]
    message = run(*go_on).message
    assert (
        "does not say data.reward (lambda)" in message and "--data.reward" in message and "checkpoint='last'" in message
    )
    reward = ["--data.reward", "graft.reward.FunctionReward", "--data.reward.path", "dots.right"]
    done(*go_on, *reward, "--data.reward.timeout", "null")
    graft.fit(module(dots), data(reward=lambda point: point[0]), "whole", trainer())
    done("sample", "--weights", "whole", "--trust", "-n", 4, "--out", "a.csv")
    refused = run("sample", "--weights", "whole", "--trust", "-n", 4, "--best_of", 2, "--out", "a.csv").message
    assert "does not say data.reward (lambda)" in refused

    class Local(dots.Net):  # type: ignore[misc,name-defined]
        pass

    for backbone, message in ((dots.Wide(7), "(Wide"), (Local(), "cannot be imported")):
        found = configuration(module(dots, weights=None, level=0.0, backbone=backbone), data(), trainer(Stop()))
        holes = {line.removeprefix(MISSING) for line in found.splitlines() if line.startswith(MISSING)}
        assert any(hole.startswith("model.backbone") and message in hole for hole in holes)
        assert any(hole.startswith("trainer.callbacks") for hole in holes)


def test_settings_that_were_changed(dots: Any) -> None:
    """The configuration has the values that ran, also those that were assigned later to loaded objects."""
    given, rollouts = module(dots, seed=5, **training(0.1, ema_decay=0.9)), data(seed=5)
    rollouts.draws, given.optimizer = 12, partial(FusedAdamW, lr=0.2)
    given.policy.set_level(0.5)
    rollouts.reward = WeightedSum([FunctionReward("dots.right", timeout=None), "dots.right"], [1.0, 2.0])
    Path("config.yaml").write_text(configuration(given, rollouts, trainer()))
    for number in (1, 2):
        again, rollouts_again, trainer_again = graft.load("config.yaml")
        rate = again.optimizer(again.parameters()).defaults["lr"]
        assert (again.policy.interval.low, rate, again.seed, again.policy.ema.decay) == (0.5, 0.2, 5, 0.9)
        assert (rollouts_again.draws, rollouts_again.evaluation.alarms, rollouts_again.seed) == (12, None, 5)
        assert [term.path for term in rollouts_again.reward.terms] == ["dots.right"] * 2
        assert rollouts_again.reward.weights == [1.0, 2.0] and trainer_again.max_epochs == 2
        assert rollouts_again.reward.identity() == rollouts.reward.identity()
        rollouts_again.evaluation.test_draws = 8 + number
        Path("config.yaml").write_text(configuration(again, rollouts_again, trainer_again))
    assert graft.load("config.yaml")[1].evaluation.test_draws == 10
    mixed = configuration(module(dots, seed=1), data(), trainer())
    assert f"{MISSING}data.seed" in mixed


@pytest.mark.parametrize("command", ["fit", "pretrain"])
def test_a_run_is_not_overwritten_without_a_word(command: str, dots: Any) -> None:
    def go(name: str, **settings: Any) -> Any:
        if command == "fit":
            return graft.fit(module(dots), data(), name, trainer(), **settings)
        return graft.pretrain(module(dots, weights=None, level=0.0), dots.Data(), name, trainer(), draws=8, **settings)

    go("run")
    Path("run/mine.txt").write_text("mine")
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*") if path.is_file()}
    for settings in ({}, {"checkpoint": "last"}, {"checkpoint": Path("run/checkpoints/last.ckpt")}):
        with pytest.raises(GraftError, match=r"holds a finished run.*overwrite=True"):
            go("run", **settings)
    Path("run/summary.json").unlink()
    with pytest.raises(GraftError, match=r"holds an unfinished run.*checkpoint='last'.*overwrite=True"):
        go("run")
    with pytest.raises(GraftError, match="no run in"):
        go("other", checkpoint="last")
    with pytest.raises(GraftError, match="one of the two"):
        go("run", checkpoint="last", overwrite=True)
    del before[Path("run/summary.json")]
    assert before == {path: path.stat().st_mtime_ns for path in Path("run").rglob("*") if path.is_file()}
    summary = go("run", checkpoint="last")
    assert summary == json.loads(Path("run/summary.json").read_text())
    go("run", overwrite=True)
    assert Path("run/mine.txt").read_text() == "mine" and Path("run/summary.json").exists()


def test_pretraining_from_python(dots: Any) -> None:
    """The weights know their model; the data set's arguments are found where it keeps them."""
    graft.pretrain(module(dots, weights=None, level=0.0), dots.Data(16, scale=2.0), "ref", trainer(), draws=8)
    config = yaml.safe_load(Path("ref/config.yaml").read_text())
    assert config["data"] == {"class_path": "dots.Data", "init_args": {"count": 16, "scale": 2.0}}
    done("sample", "--weights", "ref", "--trust", "-n", 4, "--out", "a.csv")
    assert len(Path("a.csv").read_text().splitlines()) == 4


def test_a_random_seed(dots: Any) -> None:
    """``true`` is a new number each time; the run keeps it on resume and in a repetition."""
    Path("config.yaml").write_text(configuration(module(dots), data(), trainer()))
    args = ["fit", "--config", "config.yaml", *QUIET, "--seed_everything"]

    def summary(name: str) -> dict[str, Any]:
        found = json.loads(Path(name, "summary.json").read_text())
        return {key: value for key, value in found.items() if key != "seconds"}

    for name in ("a", "b"):
        done(*args, "true", "--run_dir", name)
    seeds = [yaml.safe_load(Path(name, "config.yaml").read_text())["seed_everything"] for name in ("a", "b")]
    assert seeds[0] != seeds[1] and all(type(seed) is int and seed > 1 for seed in seeds)
    assert [summary(name)["seed"] for name in ("a", "b")] == seeds
    done(*args, seeds[0], "--run_dir", "again")
    assert summary("again") == summary("a") and same(Path("again"), Path("a"))
    assert f"--seed_everything {seeds[0]}" in Path("a/report.html").read_text()
    for last in ("last", "auto"):
        Path("a/summary.json").unlink()
        done(*args, "true", "--run_dir", "a", "--ckpt_path", last)
        assert summary("a") == summary("again")
    loaded = graft.load("config.yaml", "--seed_everything=true")
    assert loaded[0].seed == loaded[1].seed not in seeds


def test_a_random_seed_of_several_processes(dots: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that Lightning starts have the seed of the first; processes that are started separately are refused."""
    Path("config.yaml").write_text(configuration(module(dots), data(), trainer()))
    first = graft.load("config.yaml", "--seed_everything=true")[0].seed
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert graft.load("config.yaml", "--seed_everything=true")[0].seed == first
    monkeypatch.delenv("LOCAL_RANK")
    assert graft.load("config.yaml", "--seed_everything=true")[0].seed != first
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(GraftError, match="it must be a number"):
        graft.load("config.yaml", "--seed_everything=true")
