"""Lightning's callbacks that need a logger, a checkpoint or a metric work, in runs that were interrupted, too."""

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from called import QUIET, done, run
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from safetensors.torch import load_file

import graft
from graft import GraftModule, report
from graft.runs.callbacks import with_graft_callbacks

SMALL = [
    "--data.draws",
    "64",
    "--data.evaluation.test_draws",
    "32",
    "--data.evaluation.validation_draws",
    "32",
    "--data.steps_per_round",
    "4",
]
FIT = ["fit", *["--config", "domains/mixture/mixture.yaml", "--model.weights", "run/reference.safetensors"], *SMALL]
FIT += [
    *QUIET,
    "--trainer.max_epochs",
    "3",
    "--model.tuning.ema_decay",
    "0.9",
    "--model.lr_scheduler",
    "graft.optimizers.WarmupCosine",
]
BEST = {"monitor": "validation/reward", "mode": "max", "filename": "best", "enable_version_counter": False}


def callbacks(*classes: "tuple[str, dict[str, Any]]") -> list[str]:
    """A configuration file with these callbacks."""
    listed = [{"class_path": name, "init_args": settings} for name, settings in classes]
    Path("callbacks.yaml").write_text(yaml.safe_dump({"trainer": {"callbacks": listed}}))
    return ["--config", "callbacks.yaml"]


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_report", lambda *_: None)  # takes seconds


def rows(run: "str | Path") -> list[dict[str, str]]:
    with Path(run, "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if value} for row in csv.DictReader(file)]


def summary(run: "str | Path") -> dict[str, Any]:
    content = json.loads(Path(run, "summary.json").read_text())
    return {name: value for name, value in content.items() if name != "seconds"}


def alike(ours: "str | Path", theirs: "str | Path") -> None:
    """Two runs gave the same, bit for bit."""
    first, second = (load_file(Path(run, "tuned.safetensors")) for run in (ours, theirs))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    assert summary(ours) == summary(theirs) and rows(ours) == rows(theirs)


def interrupted(monkeypatch: pytest.MonkeyPatch, args: "list[str]", step: int) -> None:
    """Run a command that Ctrl-C stops in that step."""
    step_of = GraftModule.on_train_batch_end

    def stops(self: GraftModule, *rest: Any) -> None:
        if self.global_step == step:
            signal.raise_signal(signal.SIGINT)
        step_of(self, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(GraftModule, "on_train_batch_end", stops)
        assert run(*args).status == 130


def test_they_work_and_go_on(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A monitored checkpoint, the learning rate, a patience: without a logger of the user's, after an interruption."""
    args = [
        *FIT,
        *callbacks(
            ("ModelCheckpoint", BEST),
            ("LearningRateMonitor", {"logging_interval": "step"}),
            ("EarlyStopping", {"monitor": "rollout/accepted_reward", "mode": "max", "patience": 5}),
        ),
        *["--trainer.log_every_n_steps", "1"],
    ]
    done(*args, "--run_dir", "whole")
    checkpoints = {path.name for path in Path("whole/checkpoints").iterdir()}
    assert {"best.ckpt", "last.ckpt"} <= checkpoints <= {"best.ckpt", "last.ckpt", "good.safetensors"}
    rewards = [float(row["validation/reward"]) for row in rows("whole") if "validation/reward" in row]
    kept = torch.load("whole/checkpoints/best.ckpt", weights_only=True)
    assert kept["global_step"] == 4 * (1 + rewards.index(max(rewards)))
    assert any("lr-FusedAdamW" in row for row in rows("whole"))
    interrupted(monkeypatch, [*args, "--run_dir", "made"], step=6)
    done(*args, "--run_dir", "made", "--ckpt_path", "last")
    alike("made", "whole")
    again = torch.load("made/checkpoints/best.ckpt", weights_only=True)
    assert again["global_step"] == kept["global_step"]
    last = torch.load("made/checkpoints/last.ckpt", weights_only=True)["callbacks"]
    (mine,) = (state for name, state in last.items() if name.startswith("ModelCheckpoint"))
    assert Path(mine["best_model_path"]).name == "best.ckpt" and len(last) >= 3


def test_a_checkpoint_within_a_round_is_whole(toy: Path) -> None:
    """The checkpoint has the average of the weights after its own step: the run resumes to the same weights."""
    args = [*FIT, *callbacks(("ModelCheckpoint", {"every_n_train_steps": 5, "save_top_k": -1, "filename": "{step}"}))]
    done(*args, "--run_dir", "whole")
    assert {path.name for path in Path("whole/checkpoints").glob("*.ckpt")} == {
        "last.ckpt",
        "step=5.ckpt",
        "step=10.ckpt",
    }
    run_dir = Path("made")
    Path("whole").rename(run_dir)
    kept = {name: load_file(run_dir / "tuned.safetensors")[name] for name in load_file(run_dir / "tuned.safetensors")}
    before = summary(run_dir), rows(run_dir)
    (run_dir / "summary.json").unlink()
    (run_dir / "tuned.safetensors").unlink()
    done(*args, "--run_dir", run_dir, "--ckpt_path", "made/checkpoints/step=5.ckpt")
    again = load_file(run_dir / "tuned.safetensors")
    assert all(torch.equal(again[name], kept[name]) for name in kept)
    assert (summary(run_dir), rows(run_dir)) == before


def test_a_run_that_was_stopped_early_is_not_trained_on(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the final comparison, the run resumes with the comparison."""
    stop = {"monitor": "train/loss", "mode": "min", "stopping_threshold": 1e9}
    args = [*FIT, *callbacks(("EarlyStopping", stop))]
    done(*args, "--run_dir", "whole")
    assert len(summary("whole")["rounds"]) == 1

    def dies(self: GraftModule) -> None:
        raise RuntimeError("the machine is lost")

    with monkeypatch.context() as patch:
        patch.setattr(GraftModule, "on_test_epoch_start", dies)
        with pytest.raises(RuntimeError, match="the machine is lost"):
            run(*args, "--run_dir", "made")
    done(*args, "--run_dir", "made", "--ckpt_path", "last")
    alike("made", "whole")


def test_what_can_be_monitored(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All values of metrics.csv can be monitored at the end of every round, for any ``log_every_n_steps``."""
    names = ["train/loss", "rollout/reward", "rollout/kl_nats", "validation/reward"]
    seen: list[dict[str, float]] = []

    class Seen(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            seen.append({name: float(trainer.callback_metrics[name]) for name in names})

    made = [ModelCheckpoint(monitor=name, filename=name.replace("/", "-")) for name in names]
    monkeypatch.syspath_prepend(toy)
    module, data, _ = graft.load(*FIT[2:])
    stopping = [EarlyStopping(name, patience=9) for name in names]
    trainer = graft.trainer(2, accelerator="cpu", enable_progress_bar=False, callbacks=[Seen(), *made, *stopping])
    graft.fit(module, data, "made", trainer)
    assert len(seen) == 2 and all(value == value for each in seen for value in each.values())
    accounts = summary("made")["rounds"]
    assert [each["rollout/reward"] for each in seen] == pytest.approx([each["reward"] for each in accounts])
    kept = {Path(each.best_model_path).relative_to(toy.resolve()).as_posix() for each in made}
    assert kept == {f"made/checkpoints/{name.replace('/', '-')}.ckpt" for name in names}


@pytest.mark.parametrize("kind", ["ModelCheckpoint", "EarlyStopping"])
def test_a_metric_that_is_not_there(kind: str, toy: Path) -> None:
    message = run(*FIT, *callbacks((kind, {"monitor": "validation/rewards"})), "--run_dir", "made").message
    assert "validation/rewards" in message and "validation/reward`" in message.replace("'", "`")


def test_a_single_callback(toy: Path) -> None:
    """A single callback is accepted, as Lightning accepts it."""
    done(*FIT, "--trainer.callbacks", "ModelCheckpoint", "--trainer.callbacks.filename", "own", "--run_dir", "made")
    assert {path.name for path in Path("made/checkpoints").glob("*.ckpt")} == {"own.ckpt", "last.ckpt"}


def test_a_module_that_brings_its_own(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning puts such callbacks in place of those of the same class: the run's own checkpoint stays."""
    own = with_graft_callbacks(lambda self: [ModelCheckpoint(filename="own", save_top_k=1)])
    monkeypatch.setattr(GraftModule, "configure_callbacks", own)
    done(*FIT, "--run_dir", "made")
    assert {path.name for path in Path("made/checkpoints").glob("*.ckpt")} == {"own.ckpt", "last.ckpt"}
