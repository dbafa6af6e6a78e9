"""A reward with one value for all draws ends the run, unless it is allowed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import broken
import pytest
import torch
from broken import PLANE
from called import MOLECULE, QUIET, done, run
from test_not_finite import FIT, QUICK, plane_of, trained
from trained import rollouts_of

import graft
from graft import cli
from graft.accept import AcceptAll, Threshold, TopFraction
from graft.commands.compare import best_of
from graft.core.datatypes import ScoredSet
from graft.errors import GraftError
from graft.objectives import DiffusionNFT
from graft.reward import Reward
from graft.rollouts.settings import ScoredFile

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights of a reference."""
    folder = tmp_path_factory.mktemp("plane")
    graft.pretrain(plane_of(broken.Network()), broken.Points(), folder, trained(1), draws=8)
    return str(folder / "reference.safetensors")


class Given(Reward):
    """A function of a point, as a reward."""

    def __init__(self, function: Callable[[Any], float], higher_is_better: bool = True) -> None:
        self.function, self.higher_is_better, self.calls = function, higher_is_better, 0

    def score(self, item: Any) -> float:
        self.calls += 1
        return self.function(item)

    def identity(self) -> str:
        return "given"


def fit(weights: str, reward: "Reward | None", rounds: int = 1, run_dir: str = "run", **settings: Any) -> Any:
    model = {name: settings.pop(name) for name in ("objective",) if name in settings}
    data = rollouts_of(reward, **{**QUICK, "alarms": None, **settings})
    return graft.fit(plane_of(broken.Network(), weights=weights, **model), data, run_dir, trained(rounds))


def test_one_value(weights: str, folder: Path) -> None:
    """One sentence states the fault and what to do; sampled and scored draws are kept."""
    (folder / "plane.yaml").write_text(PLANE)
    args = [*FIT, "--model.weights", weights, "--data.reward", "broken.Zero", "--trainer.max_epochs", "1"]
    message = run(*args).message
    assert message.startswith(
        "graft: the reward zero is 0 for all 48 candidates of round 1, so that training would learn"
    )
    assert "check the reward" in message and message.endswith("with data.budget.allow_constant=true")
    assert len([*folder.glob("run/rounds/0/scores_*.json")]) == 2 and not [*folder.glob("run/*.safetensors")]
    result = done(*args, "--ckpt_path", "last", "--data.budget.allow_constant", "true")
    assert "the reward zero is 0 for all 48 candidates of round 1: the accepted draws are arbitrary" in result.out
    (account,) = json.loads((folder / "run/summary.json").read_text())["rounds"]
    assert account["constant_conditions"] == account["conditions"] > 0 and account["accepted"] == 24


def test_docking_with_one_affinity(folder: Path) -> None:
    """A docking program returns the same value for every molecule, for example for an empty box."""
    pytest.importorskip("meeko", reason="meeko prepares ligands for Vina")
    (folder / "receptor.pdbqt").write_text(
        "ATOM      1  C   UNL A   1       0.000   0.000   0.000  1.00  0.00     0.0 C\n"
    )
    (folder / "vina").write_text(
        """#!/bin/sh
        while [ $# -gt 1 ]; do case $1 in --out) out=$2;; --ligand) ligand=$2;; esac; shift; done
        { echo "REMARK VINA RESULT:    -5.000      0.000      0.000"; cat $ligand; } > $out
        """
    )
    (folder / "vina").chmod(0o755)
    reward = {"receptor": "receptor.pdbqt", "center": [0, 0, 0], "size": [9, 9, 9], "program": str(folder / "vina")}
    args = [
        *MOLECULE,
        "--model.weights",
        "domains/molecules/reference/drug_like.safetensors",
        *QUIET,
        "--model.steps",
        "12",
    ]
    args += ["--data.reward", json.dumps({"class_path": "domains.molecules.rewards.Vina", "init_args": reward})]
    message = run("fit", *args, "--data.draws", "24", "--trainer.max_epochs", "1", "--data.replay_rounds", "1").message
    assert "the reward Vina receptor is -5" in message and "candidates of round 1" in message


def test_one_value_for_each_condition(weights: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    label = Given(lambda point: point[2])
    few = {"draws": 240, "batch_size": 240, "accept": TopFraction(0.25)}
    with pytest.raises(GraftError, match=r"does not vary within any of 3 conditions of round 1, .*group_by=global"):
        fit(weights, label, **few)
    fit(weights, label, run_dir="global", **{**few, "accept": TopFraction(0.25, group_by="global")})
    capsys.readouterr()
    one = Given(lambda point: point[0] if point[2] == 1 else 0.5)
    fit(weights, one, run_dir="one", **few)
    assert "does not vary within 2 of 3 conditions of round 1, where nothing is selected" in capsys.readouterr().out


def test_rules_that_select_nothing(weights: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """To accept all draws is allowed, unless the objective learns from the rewards themselves."""
    fit(weights, Given(lambda point: 1.0), run_dir="all", accept=AcceptAll())
    assert "arbitrary" not in capsys.readouterr().out
    fit(weights, Given(lambda point: point[0]), run_dir="threshold", accept=Threshold(-1e9))
    assert (
        "the rule 'reward >= -1e+09' accepts all candidates of round 1: nothing is selected" in capsys.readouterr().out
    )
    policy = {"accept": AcceptAll(), "source": "current", "objective": DiffusionNFT()}
    with pytest.raises(GraftError, match="is 1 for all 48 candidates of round 1, so that training would learn"):
        fit(weights, Given(lambda point: 1.0), run_dir="policy", **policy)
    with pytest.raises(GraftError, match="is 1 for all 48 candidates of round 1, so that training would learn"):
        fit(weights, Given(lambda point: 1.0), run_dir="threshold of all", accept=Threshold(0.5))


class After(Given):
    """One function of a point for the first draws, and then another."""

    def __init__(
        self, first: Callable[[Any], float], then: Callable[[Any], float], higher_is_better: bool = True
    ) -> None:
        super().__init__(lambda point: first(point) if self.calls <= 96 else then(point), higher_is_better)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_saturation(higher_is_better: bool, weights: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All draws of the third round are as good as the best of the second: the run ends well, without training."""
    sign = 1 if higher_is_better else -1
    reward = After(lambda point: sign * min(1.0, point[0] + 0.5), lambda point: sign * 1.0, higher_is_better)
    settings = {"source": "current", "accept": TopFraction(0.1, group_by="global")}
    summary = fit(weights, reward, 5, **settings)
    message = capsys.readouterr().out
    sentence = f"the reward reward is {sign} for all 48 candidates of round 3"
    assert f"{sentence}, no worse than the accepted draws of round 2" in message
    assert summary["saturated"] and len(summary["rounds"]) == 3 and summary["tuned"]["reward"] == sign
    assert summary["reward_calls"] == 3 * 48
    tuned, second = (
        graft.io.tensors.read_tensors(f"run/{name}")[0] for name in ("tuned.safetensors", "rounds/1/tuned.safetensors")
    )
    assert (
        all(torch.equal(tuned[name], second[name]) for name in second)
        and not Path("run/rounds/2/tuned.safetensors").exists()
    )
    # resumed where it would begin that round
    Path("run/summary.json").unlink()
    module = plane_of(broken.Network(), weights=weights)
    data = rollouts_of(reward, **{**QUICK, "alarms": None, **settings})
    again = graft.fit(module, data, "run", trained(5), checkpoint=Path("run/checkpoints/last.ckpt"))
    assert again["saturated"] and again["rounds"] == summary["rounds"] and again["tuned"] == summary["tuned"]


def test_reward_that_breaks_later(weights: str, folder: Path) -> None:
    """All draws of the third round are worse than the accepted ones before: that is no success."""
    reward = After(lambda point: point[0], lambda point: -9.0)
    with pytest.raises(GraftError, match=r"the reward reward is -9 for all 48 candidates of round 3, so that training"):
        fit(weights, reward, 5, source="current", accept=TopFraction(0.25, group_by="global"))
    assert Path("run/rounds/1/tuned.safetensors").exists() and not Path("run/summary.json").exists()
    assert graft.runs.checkpoint.read_checkpoint(Path("run/checkpoints/last.ckpt"))["global_step"] == 8


class Scored(broken.Plane):
    """Reads any file as 40 points with the score that is its name, in which one is missing."""

    def read_scored(self, path: Path, score: str) -> ScoredSet:
        values = [float(path.stem)] * 39 + [float("nan")]
        state = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
        return ScoredSet(state, {"label": torch.zeros(40, dtype=torch.long)}, values, [""] * 40)


def test_scored_file(weights: str, folder: Path) -> None:
    """A constant column is refused by its name before training; scores that are NaN do not count."""
    Path("5.csv").touch()
    data = rollouts_of(None, **{**QUICK, "alarms": None, "source": ScoredFile("5.csv", "pIC50")})
    module = plane_of(broken.Network(), Scored, weights=weights)
    with pytest.raises(GraftError, match="the reward pIC50 is 5 for all 39 candidates of round 1"):
        graft.fit(module, data, "run", trained(1))


def test_proxy_and_best_of(weights: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The choice would be arbitrary: the run prints that and continues."""
    fit(weights, Given(lambda point: point[0]), proxy_reward=Given(lambda point: 2.0), proxy_fraction=0.5)
    assert "the proxy reward reward does not vary within any condition" in capsys.readouterr().out
    module = plane_of(broken.Network(), weights=weights)
    for reward, printed in ((Given(lambda point: 2.0), True), (Given(lambda point: point[0]), False)):
        best_of.best_of_n(module, trained(1), reward, 3, 2)
        assert ("the objects that are kept are arbitrary" in capsys.readouterr().out) == printed
