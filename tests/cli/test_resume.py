"""Interrupted runs resume: files on disk are used, and the result is that of an uninterrupted run, bit by bit."""

import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from called import HERE, QUIET, done, run
from safetensors.torch import load_file

from graft.cli.configs import config_name
from graft.runs.callbacks import Hooks

LAST = ["--ckpt_path", "last"]
CALLBACK = ["--trainer.callbacks", "callbacks.Killed"]


@pytest.fixture(scope="module")
def args(mixture_fit: list[str]) -> list[str]:
    return ["fit", *mixture_fit, *CALLBACK]


@pytest.fixture(scope="module")
def whole(args: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done(*args)
    return folder / "runs" / "mixture" / "1"


@pytest.fixture
def interrupted(mixture_run: Path, folder: Path) -> Path:
    """A run that ended just before its last file."""
    copy = folder / "runs" / "mixture" / "1"
    shutil.copytree(mixture_run, copy)
    (copy / "summary.json").unlink()
    return copy


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def summary(run: Path) -> dict:
    content = json.loads((run / "summary.json").read_text())
    return {name: value for name, value in content.items() if name != "seconds"}


@pytest.mark.parametrize(
    ("where", "drawn", "scored", "checkpoint"),
    [
        ("sampling", 1, 0, False),
        pytest.param("scoring", 4, 3, True, marks=pytest.mark.slow),
        ("training", 4, 4, True),
        pytest.param("comparing", 4, 4, True, marks=pytest.mark.slow),
    ],
)
def test_killed_run_goes_on(
    where: str, drawn: int, scored: int, checkpoint: bool, args: list[str], whole: Path, folder: Path
) -> None:
    killed = subprocess.run(
        [sys.executable, "-m", "graft", *args],
        env={**os.environ, "TRIED_KILL": where, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed = folder / "runs" / "mixture" / "1"
    before = {path: path.stat().st_mtime_ns for path in (resumed / "rounds").rglob("*_0000*")}
    assert len([path for path in before if path.suffix == ".safetensors"]) == drawn
    assert len([path for path in before if path.suffix == ".json"]) == scored
    assert (resumed / "checkpoints" / "last.ckpt").exists() == checkpoint
    assert not (resumed / "summary.json").exists()

    done(*args, *LAST)
    assert {path: path.stat().st_mtime_ns for path in before} == before  # drawn and scored once
    assert [path.name for path in resumed.parent.iterdir()] == ["1"]
    assert (resumed / "tuned.safetensors").read_bytes() == (whole / "tuned.safetensors").read_bytes()
    assert summary(resumed) == summary(whole)
    assert rows(resumed) == rows(whole)
    assert not list(resumed.rglob("*.part"))  # left over from a file that was being written


SIGNALS = {
    "Ctrl-C in the first round": (signal.SIGINT, 130, 2, "reference"),
    "in the second, of the current model": (signal.SIGTERM, 143, 6, "current"),
    "in the last step of a round": (signal.SIGINT, 130, 4, "reference"),
    "in the last step": (signal.SIGTERM, 143, 8, "reference"),
}


FIRST, CURRENT, *OTHERS = SIGNALS


@pytest.mark.parametrize("when", [CURRENT, *(pytest.param(each, marks=pytest.mark.slow) for each in (FIRST, *OTHERS))])
def test_interruption(when: str, args: list[str], whole: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step is finished and saved, and the printed command resumes to the same weights bit for bit."""
    import callbacks

    number, status, step, source = SIGNALS[when]
    args = [*args, "--data.source", source, *(["--model.tuning.ema_decay", "0.9"] if source == "current" else [])]
    if source == "current":
        done(*args, "--run_dir", "whole")
        whole = folder / "whole"
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Killed, "on_train_batch_end", callbacks.interrupt(number, step))
        result = run(*args)
    assert result.status == status and "finishing the step" in result.out
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    message = result.err.strip()
    assert message.startswith("graft: interrupted ") and len(message.splitlines()) == 1
    command = shlex.split(message.partition("resume with: ")[2])
    assert command[0] == "graft" and command[-4:] == ["--run_dir", "runs/mixture/1", "--ckpt_path", "last"]
    resumed = folder / "runs/mixture/1"
    assert torch.load(resumed / "checkpoints/last.ckpt", weights_only=True)["global_step"] == step
    steps: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(
            callbacks.Killed, "on_train_batch_end", lambda self, trainer, *_: steps.append(trainer.global_step)
        )
        done(*command[1:])
    assert steps == list(range(step + 1, 9))  # none is repeated
    ours, theirs = (load_file(run / "tuned.safetensors") for run in (resumed, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert summary(resumed) == summary(whole) and rows(resumed) == rows(whole)


def test_interruption_of_a_rollout(args: list[str], whole: Path, folder: Path) -> None:
    """The chunk is finished; the others are sampled on resume."""
    import callbacks

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(callbacks.Killed, "setup", callbacks.interrupt_drawing)
        result = run(*args)
    assert result.status == 130 and "between two rounds" in result.err
    resumed = folder / "runs/mixture/1"
    assert [path.name for path in (resumed / "rounds/0").iterdir()] == ["chunk_00000.safetensors"]
    done(*args, *LAST)
    assert (resumed / "tuned.safetensors").read_bytes() == (whole / "tuned.safetensors").read_bytes()


def test_interruption_of_the_comparison(
    interrupted: Path, mixture_fit: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning alone would take no notice of a SIGTERM there."""
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setattr(Hooks, "on_test_epoch_start", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    result = run("fit", *mixture_fit, "--ckpt_path", interrupted / "checkpoints/last.ckpt")
    for each, handler in handlers.items():
        signal.signal(each, handler)
    assert result.status == 143 and "in the comparison at the end" in result.err
    assert f"--run_dir {interrupted}" in result.err and not (interrupted / "summary.json").exists()


def test_interrupted_pretraining(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted within its second epoch, training resumes with the remaining batches and the same dropout."""
    import callbacks

    args = ["pretrain", "--config", "domains/molecule_small_pretrain.yaml", *CALLBACK, "--data.max_heavy_atoms", "4"]
    args += ["--model.steps", "4", "--trainer.max_epochs", "2", "--data.batch_size", "16", *QUIET]
    args += [
        "--model.backbone",
        "callbacks.Dropping",
        "--model.backbone.num_types",
        "10",
        "--model.backbone.hidden_dim",
        "16",
    ]
    done(*args, "--run_dir", "whole")
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Killed, "on_train_batch_end", callbacks.interrupt(signal.SIGTERM, 9))
        result = run(*args, "--run_dir", "stopped")
    assert result.status == 143 and "after step 9" in result.err
    done(*shlex.split(result.err.partition("resume with: ")[2])[1:])
    whole, stopped = ((folder / name / "reference.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert whole == stopped


def test_explicit_checkpoint(interrupted: Path, mixture_run: Path, mixture_fit: list[str]) -> None:
    """A run resumes from a named checkpoint in its own folder."""
    done("fit", *mixture_fit, "--ckpt_path", interrupted / "checkpoints" / "last.ckpt")
    assert summary(interrupted) == summary(mixture_run)
    assert rows(interrupted) == rows(mixture_run)
    assert [path.name for path in interrupted.parent.iterdir()] == ["1"]


def test_checkpoint_without_its_run(interrupted: Path, folder: Path, mixture_fit: list[str]) -> None:
    lost = folder / "elsewhere" / "last.ckpt"
    lost.parent.mkdir()
    shutil.copy(interrupted / "checkpoints" / "last.ckpt", lost)
    assert "no run in" in run("fit", *mixture_fit, "--ckpt_path", lost).message


def test_nothing_to_go_on_with(folder: Path, mixture_fit: list[str]) -> None:
    assert "no unfinished run in runs/mixture" in run("fit", *mixture_fit, *LAST).message
    assert not (folder / "runs").exists()
    assert "no run in mine" in run("fit", *mixture_fit, *LAST, "--run_dir", "mine").message
    assert not (folder / "mine").exists()
    assert "'nowhere.ckpt'" in run("fit", *mixture_fit, "--ckpt_path", "nowhere.ckpt").message


def test_started_again_by_a_scheduler(mixture_run: Path, folder: Path, mixture_fit: list[str]) -> None:
    """The same command starts the run and resumes it; a finished run stays as it is."""
    again = [
        *mixture_fit,
        "--data.draws",
        "32",
        "--trainer.max_epochs",
        "1",
        "--run_dir",
        "mine",
        "--ckpt_path",
        "auto",
    ]
    done("fit", *again)
    assert "is finished" in run("fit", *again).message
    (folder / "mine" / "summary.json").unlink()
    before = {path: path.stat().st_mtime_ns for path in (folder / "mine" / "rounds").rglob("chunk*")}
    done("fit", *again)
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "mine" / "rounds").rglob("chunk*")}


def test_finished_run(mixture_run: Path, folder: Path, mixture_fit: list[str]) -> None:
    shutil.copytree(mixture_run, folder / "runs" / "mixture" / "1")
    assert "no unfinished run" in run("fit", *mixture_fit, *LAST).message
    assert "is finished" in run("fit", *mixture_fit, *LAST, "--run_dir", "runs/mixture/1").message
    assert "is finished" in run("fit", *mixture_fit, "--ckpt_path", "runs/mixture/1/checkpoints/last.ckpt").message


@pytest.mark.parametrize(
    ("flag", "value", "key"),
    [
        ("--model.level", "0.5", "model.init_args.level"),
        ("--data.accept.fraction", "0.25", "data.accept.init_args.fraction"),
        ("--seed_everything", "3", "seed_everything"),
        ("--trainer.max_epochs", "3", "trainer.max_epochs"),
        ("--model.lora.rank", "16", "model.init_args.lora"),
        ("--weights", None, "weights"),
    ],
)
@pytest.mark.parametrize("how", ["last", "path"])
def test_flag_that_differs(
    flag: str, value: str, key: str, how: str, interrupted: Path, mixture_run: Path, mixture_fit: list[str]
) -> None:
    """Lightning would let the checkpoint override it in silence."""
    before = {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()}
    checkpoint = "last" if how == "last" else interrupted / "checkpoints" / "last.ckpt"
    message = run("fit", *mixture_fit, flag, value or mixture_run, "--ckpt_path", checkpoint).message
    assert key in message and (value or str(mixture_run)) in message
    assert {path: path.read_bytes() for path in interrupted.rglob("*") if path.is_file()} == before


def test_runs_are_numbered(interrupted: Path, folder: Path, mixture_fit: list[str]) -> None:
    """Each in a folder of its own; 'last' is the newest that did not end."""
    (interrupted.parent / "7").mkdir()
    (interrupted.parent / "notes").mkdir()
    tiny = ["--data.evaluation.test_draws", "4", "--trainer.max_epochs", "1", "--data.evaluation.validation_draws", "0"]
    assert "runs/mixture/8" in done("fit", *mixture_fit, *tiny).out
    assert (interrupted.parent / "8" / "summary.json").exists()
    assert "runs/mixture/1" in done("fit", *mixture_fit, *LAST).out
    assert (interrupted / "summary.json").exists()


def test_occupied_folder(mixture_run: Path, interrupted: Path, folder: Path, mixture_fit: list[str]) -> None:
    assert "finished" in run("fit", *mixture_fit, "--run_dir", mixture_run).message
    message = run("fit", *mixture_fit, "--run_dir", interrupted).message
    assert "unfinished" in message and "--ckpt_path last" in message


def test_run_in_a_folder_of_one_s_own(folder: Path, mixture_fit: list[str], mixture_run: Path) -> None:
    tiny = ["--data.evaluation.test_draws", "4", "--trainer.max_epochs", "1", "--data.evaluation.validation_draws", "0"]
    done("fit", *mixture_fit, *tiny, "--run_dir", "deep/down")
    assert (folder / "deep/down/summary.json").exists() and not (folder / "runs").exists()
    (folder / "deep/down/summary.json").unlink()
    done("fit", *mixture_fit, *tiny, "--run_dir", "deep/down", *LAST)


def test_chunks_of_another_run_are_refused(
    interrupted: Path, mixture_run: Path, mixture_fit: list[str], folder: Path
) -> None:
    """A folder of rounds from somewhere else is not taken for this run's."""
    other = folder / "other"
    shutil.copytree(mixture_run / "rounds", other / "rounds")
    assert "must be empty" in run("fit", *mixture_fit, "--seed_everything", "5", "--run_dir", "other").message
    config = (mixture_run / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("seed_everything: 0", "seed_everything: 5"))
    message = run("fit", *mixture_fit, "--seed_everything", "5", "--run_dir", "other", *LAST).message
    assert "another seed" in message and "--run_dir" in message


def test_commands_name(mixture_fit: list[str]) -> None:
    assert config_name(["--config=domains/a.yaml", "--config", "b.yaml"]) == "a"
