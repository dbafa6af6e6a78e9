"""In a run of many rounds, memory and disk use do not grow, and the run prints its remaining time."""

import re
import shutil
from pathlib import Path

import callbacks
import pytest
from called import QUIET, TOY, done, run

from graft.core.progress import format_duration


@pytest.fixture
def args(folder: Path) -> list[str]:
    shutil.copytree(TOY / "domains", folder / "domains")
    done("pretrain", "--config", "domains/mixture/pretrain.yaml", "--trainer.max_epochs", "1", *QUIET)
    tiny = [
        "--data.draws",
        "32",
        "--data.batch_size",
        "16",
        "--data.steps_per_round",
        "2",
        "--data.evaluation.test_draws",
        "8",
    ]
    tiny += ["--data.train_batch_size", "8", "--model.steps", "4", "--data.evaluation.validation_draws", "8"]
    weights = ["--model.weights", "runs/pretrain/1/reference.safetensors"]
    return ["fit", "--config", "domains/mixture/mixture.yaml", *weights, *tiny, "--run_dir", "run", *QUIET]


def measured(args: list[str], rounds: int, *more: str) -> list[dict[str, int]]:
    callbacks.Measured.seen.clear()
    done(*args, "--trainer.max_epochs", str(rounds), "--trainer.callbacks", "callbacks.Measured", *more)
    assert len(callbacks.Measured.seen) == rounds
    print([{name: value for name, value in callbacks.Measured.seen[i].items()} for i in (9, rounds // 2, -1)])
    return callbacks.Measured.seen


def check(seen: list[dict[str, int]], since: int, keep: int) -> None:
    """Check the values from round ``since`` on, when every kind of step was done once and old rounds are removed."""
    first, last, rounds = seen[since], seen[-1], len(seen) - 1 - since
    assert last["files"] <= first["files"] and last["mapped"] <= first["mapped"]
    assert last["objects"] - first["objects"] < 150 * rounds  # an account and the alarms' statistics of each round
    assert last["memory"] - first["memory"] < 4e6 + 4e3 * rounds
    assert last["disk"] - first["disk"] < 14e3 * rounds  # scores, accounts, curves; draws and weights take 40 kB


@pytest.mark.slow
def test_thirty_rounds(args: list[str]) -> None:
    check(measured(args, 30, "--data.storage.keep_last_rounds", "3", "--data.replay_rounds", "2"), 9, 3)
    for number in range(30):
        there = {path.name for path in Path(f"run/rounds/{number}").iterdir()}
        kept = {"scores_00000.json", "scores_00001.json", "round.json", "accepted.csv"}
        draws = {"chunk_00000.safetensors", "chunk_00001.safetensors", "accepted.safetensors", "tuned.safetensors"}
        assert there == (kept | draws if number >= 27 else kept)
    assert [path.name for path in Path("run/checkpoints").iterdir() if path.suffix == ".ckpt"] == ["last.ckpt"]


@pytest.mark.slow
def test_two_hundred_rounds(args: list[str]) -> None:
    check(measured(args, 200), 30, 10)


def test_memory_of_rounds_that_were_let_go_of(args: list[str]) -> None:
    """Filters keep the accepted draws of removed rounds, and a resumed run does not need the removed files."""
    filters = ["--data.filters+", "graft.filters.Memory", "--data.storage.keep_last_rounds", "1"]
    message = run(*args, *filters, "--trainer.max_epochs", "4").err
    assert "has no key" in message  # the toy's objects have none
    assert (
        "data.replay_rounds trains on the last 3"
        in run(*args, "--data.replay_rounds", "3", "--data.storage.keep_last_rounds", "2").message
    )


def test_progress(args: list[str]) -> None:
    out = done(*args, "--trainer.max_epochs", "3").out
    lines = re.findall(r"^graft: round (\d)/3: (\d+) of 32 accepted, (\d+ s); about (\d+ s) left$", out, re.M)
    assert [line[0] for line in lines] == ["1", "2", "3"] and all(int(line[1]) > 0 for line in lines)


@pytest.mark.parametrize(
    ("seconds", "message"),
    [(0.2, "0 s"), (59, "59 s"), (60, "1 min"), (90, "1 min 30 s"), (7260, "2 h 1 min"), (180_000, "2 d 2 h")],
)
def test_span(seconds: float, message: str) -> None:
    assert format_duration(seconds) == message
