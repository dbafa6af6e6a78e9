"""`graft check` names the faults of a domain, and `graft new domain` writes one without a fault."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from called import QUIET, TOY, done, run

from graft.commands.check import COUNT, check_domain, faults
from graft.commands.new_domain import write_domain
from graft.process import CosineSchedule, Gaussian

PARTS = {  # what a domain may get wrong: the code of one hook, and words of the sentence about it
    "shape of conditions": (
        "def sample_conditions(self, count, generator): return {'label': torch.zeros(3, dtype=torch.long)}",
        "'label' of shape (3,) for 1 samples; its first dimension must be 1",
    ),
    "random conditions": (
        "def sample_conditions(self, count, generator): return {'label': torch.randint(3, (count,))}",
        "other conditions for the same generator",
    ),
    "no tensor": ("def sample_conditions(self, count, generator): return [0] * count", "must return a dict of tensors"),
    "groups": ("def group(self, condition): return condition['label'][:1]", "one for each draw"),
    "objects": ("def decode(self, state, condition): return state.tolist()[:2]", "2 objects for 3 states"),
    "random objects": (
        "def decode(self, state, condition): return torch.rand(3).tolist()\n    def key(self, item): return repr(item)",
        "other objects for the same state",
    ),
    "key": ("def key(self, item): return item[0]", "must return a string"),
    "key that raises": ("def key(self, item): raise KeyError('x')", "Mine.key failed (KeyError: 'x')"),
    "features of none": (
        "def features(self, items): return torch.tensor(items)",
        "returned a tensor of shape (0,) for 0 objects; it must return a tensor of shape (0, d)",
    ),
    "features": ("def features(self, items): return torch.full((len(items), 2), float('nan'))", "not finite"),
    "training set": (
        "def key(self, item): return repr(item)\n    def in_training_set(self, keys): return [True] * len(keys)",
        "must return a bool tensor of shape (3,)",
    ),
    "picture": ("def render(self, items, legends=None): return b'JFIF'", "no PNG"),
    "columns": ("def table_columns(self, items): return {'a': ['b']}", "1 cells of 'a' for 3 objects"),
    "file of none": (
        "def write(self, items, path, rewards=None): path.write_text(str(items[0]))",
        "Mine.write failed (IndexError",
    ),
    "no file": ("def write(self, items, path, rewards=None): pass", "wrote no .csv file"),
    "scores": (
        """def key(self, item): return f"{item[0]:.6f}"
    def write(self, items, path, rewards=None):
        path.write_text("".join(f"{x:.6f},{y:.6f},{r}\\n" for (x, y), r in zip(items, rewards or [0] * len(items))))
    def read_scored(self, path, score):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        state = torch.tensor([[float(x), float(y)] for x, y, _ in rows])
        condition, values = {"label": torch.zeros(len(rows)).long()}, [1.0] * len(rows)
        return ScoredSet(state, condition, values, [f"{float(x):.6f}" for x, _, _ in rows])""",
        "with the score 1, which is not what Mine.write wrote",
    ),
    "network": ("", "its output must have the shape of the state"),
    "device": ("", "makes a tensor on the processor"),
}
NETWORKS = {
    "network": "return super().forward(state, time, condition)[:, :1]",
    "device": "return super().forward(state, time, condition) + torch.ones(1, 2)",
}


def write_mine(folder: Path, case: str) -> None:
    """Write a domain with one fault, and its configuration."""
    (folder / "mine.py").write_text(
        "import torch\nfrom domains.mixture import Mixture, Network\nfrom graft.core.datatypes import ScoredSet\n\n"
        f"class Net(Network):\n    def forward(self, state, time, condition):\n"
        f"        {NETWORKS.get(case, 'return super().forward(state, time, condition)')}\n\n"
        f"class Mine(Mixture):\n    {PARTS[case][0] or 'pass'}\n"
    )
    text = (TOY / "domains/mixture/mixture.yaml").read_text()
    (folder / "mine.yaml").write_text(
        text.replace("domains.mixture.Mixture", "mine.Mine").replace("domains.mixture.Network", "mine.Net")
    )


@pytest.fixture
def importable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, from which the domain is imported."""
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.mark.parametrize("case", PARTS)
def test_a_fault_is_named_in_a_sentence(case: str, importable: Path) -> None:
    write_mine(importable, case)
    importlib.invalidate_caches()
    mine = importlib.import_module("mine")
    module = mine.Mine(mine.Net(), Gaussian(CosineSchedule(), "v", [2]), steps=4)
    found = faults(check_domain(module))
    assert PARTS[case][1] in found[0] and "\n" not in found[0], found


def test_the_command_ends_with_the_sentence(importable: Path) -> None:
    write_mine(importable, "key")
    result = run("check", "--config", "mine.yaml", *QUIET)
    assert result.message.startswith("graft: Mine.key returned float; it must return a string")
    assert "FAULT" in result.out and "sample_conditions  ok     label (3,)" in result.out


def test_the_toy_has_no_fault(mixture: Path) -> None:
    """With and without a reference, for both configurations; the states of random generators stay."""
    place = TOY / "domains/mixture"
    result = done("check", "--config", place / "mixture.yaml", *QUIET)
    assert "FAULT" not in result.out and result.out.endswith("no fault found\n") and "reward" in result.out
    done("check", "--config", place / "mixture.yaml", "--model.weights", mixture / "run/reference.safetensors", *QUIET)
    assert "64 objects decoded" in done("check", "--config", place / "pretrain.yaml", *QUIET).out


def test_bad_arguments(folder: Path) -> None:
    assert "give a configuration" in run("check").message
    assert "there is no configuration" in run("check", "--config", "nothing.yaml").message
    for name in ("Crystals", "1d", "class", "a-b", "../x"):
        assert "must be a Python name" in run("new", "domain", name).message
    for args in ((), ("domain",), ("reward", "x"), ("domain", "a", "b")):
        assert "graft new domain NAME" in run("new", *args).message
    (folder / "full").mkdir()
    (folder / "full/file").touch()
    assert "is not empty" in run("new", "domain", "full").message
    assert (folder / "full").stat() and sorted(path.name for path in (folder / "full").iterdir()) == ["file"]


def test_a_new_domain_passes_and_runs(folder: Path) -> None:
    """The test has its own process, because the classes of a domain stay imported."""
    shown = done("new", "domain", "rock_salt", "--folder", "package").out
    assert "graft check --config domains/rock_salt/rock_salt.yaml" in shown
    small = ["--data.draws=64", "--data.steps_per_round=2", "--trainer.max_epochs=1", *QUIET]
    small += ["--data.evaluation.validation_draws=0", "--data.evaluation.test_draws=16"]
    weights = "--model.weights=runs/pretrain/1/reference.safetensors"
    commands = [
        ["check", "--config", "domains/rock_salt/rock_salt.yaml", *QUIET],
        ["check", "--config", "domains/rock_salt/pretrain.yaml", *QUIET],
        ["pretrain", "--config", "domains/rock_salt/pretrain.yaml", "--trainer.max_epochs=1", *QUIET],
        ["fit", "--config", "domains/rock_salt/rock_salt.yaml", weights, *small],
    ]
    program = f"from graft.cli import main\nfor command in {commands!r}:\n    assert main(command) == 0, command"
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=folder / "package", capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("no fault found") == 2 and "RockSalt" in result.stdout and "FAULT" not in result.stdout
    assert "radius" in (folder / "package/runs/rock_salt/1/summary.json").read_text()


@pytest.mark.slow
def test_a_new_domain_is_a_package(tmp_path: Path) -> None:
    """The test of the new package passes, and ruff finds no fault in its code."""
    package = write_domain("crystals", tmp_path / "package")
    paths = os.pathsep.join([str(package), str(Path(__file__).parents[2])])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"]
    ran = subprocess.run(command, cwd=package, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("config", ["molecule", "layout", pytest.param("image", marks=pytest.mark.needs("diffusers"))])
def test_shipped_domains_have_no_fault(config: str) -> None:
    assert "FAULT" not in done("check", "--config", f"domains/{config}.yaml", *QUIET).out


def test_random_states_and_weights_stay(mixture: Path) -> None:
    import graft

    module = graft.from_pretrained(mixture / "run/reference.safetensors")
    before = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert not faults(check_domain(module)) and COUNT == 3
    assert torch.equal(torch.rand(3), expected)
    after: dict[str, Any] = module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in module.parameters())
