"""``seconds`` of every command that trains is the total over the sessions of a run that was interrupted."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from called import QUIET, done, run
from test_correct import CONFIG

from graft import GraftModule
from graft.commands.compare import show
from graft.runs import stopwatch

LOST = 1000.0
WEIGHTS = ["--model.weights", "run/reference.safetensors"]
SMALL = [
    "--data.draws",
    "64",
    "--data.evaluation.test_draws",
    "32",
    "--data.evaluation.validation_draws",
    "0",
    "--data.steps_per_round",
    "2",
]
FIT = ["--config", "domains/mixture/mixture.yaml", *WEIGHTS, *SMALL]
COMMANDS = {
    "fit": FIT,
    "pretrain": ["--config", "domains/mixture/pretrain.yaml", "--trainer.max_epochs", "1"],
    "correct": [
        "--config",
        "toy.yaml",
        "--data.train_longer_baseline",
        "false",
        "--data.num_repeats",
        "1",
        "--trainer.max_epochs",
        "1",
    ],
    "compare": [*FIT, "--methods", "graft", "--seeds", "0", "--trainer.max_epochs", "1"],
}


class Clock:
    """The time, moved on by hand."""

    moved = 0.0

    def perf_counter(self) -> float:
        return time.perf_counter() + self.moved


@pytest.mark.parametrize("command", COMMANDS)
def test_seconds_of_all_sessions(command: str, toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first session dies after it has trained, 1000 seconds later by its clock."""
    (toy / "toy.yaml").write_text(CONFIG.replace("reference.safetensors", "run/reference.safetensors"))
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    monkeypatch.setattr(show, "render_figure", lambda *_: b"<svg></svg>")  # takes seconds
    place = "seconds/runs/graft_seed0" if command == "compare" else "seconds"

    def dies(*_: Any, **__: Any) -> None:
        clock.moved += LOST
        raise RuntimeError("the machine is lost")

    args = [command, *COMMANDS[command], *QUIET, "--run_dir", "seconds"]
    with monkeypatch.context() as patch:
        patch.setattr(GraftModule, "save_weights", dies) if command == "pretrain" else patch.setattr(
            GraftModule, "on_test_epoch_start", dies
        )
        with pytest.raises(RuntimeError, match="the machine is lost"):
            run(*args)
    assert LOST <= stopwatch.read_seconds(toy / place) < 2 * LOST
    clock.moved -= 500  # the next session's clock starts anywhere
    done(*args, *([] if command == "compare" else ["--ckpt_path", "last"]))
    assert LOST <= json.loads((toy / place / "summary.json").read_text())["seconds"] < 2 * LOST
    assert not (toy / place / stopwatch.NAME).exists()
    if command == "compare":
        content = json.loads((toy / "seconds/compare.json").read_text())
        assert LOST <= content["seconds"] < 2 * LOST
        (training,) = json.loads((toy / place / "training.json").read_text())
        assert training["seconds"] < LOST  # the time was lost after training
        assert content["rows"][0]["training_seconds"] == training["seconds"]
