"""Alarms in a run: monitored metrics are shown, and an early stop keeps the weights of the last good round exactly."""

import csv
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from called import TOY, done, run
from safetensors.torch import load_file

from graft.evaluation.alarms import tolerances
from graft.io.checksum import checksum
from graft.io.tensors import read_tensors

RUN = "runs/molecule/1"
HELD_OUT = [
    "graft.reward.FunctionReward",
    "--data.evaluation.held_out_reward.path",
    "tried.spread",
    "--data.evaluation.held_out_reward.timeout",
    "null",
]
STOP = ["--data.evaluation.alarms.stop_on_alarm", "true", "--trainer.max_epochs", "3", "--data.source", "current"]
ALWAYS = {"valid_connected", "atom_stability", "validity", "uniqueness", "novelty", "internal_diversity"}


def summary(folder: "str | Path" = RUN) -> dict:
    return {k: v for k, v in json.loads(Path(folder, "summary.json").read_text()).items() if k != "seconds"}


def tuned(folder: "str | Path" = RUN) -> dict[str, torch.Tensor]:
    return {n: t for n, t in load_file(Path(folder, "tuned.safetensors")).items() if n.startswith("backbone/")}


@pytest.fixture
def alarm_in_the_second_round(monkeypatch: pytest.MonkeyPatch) -> None:
    real = tolerances.check_tolerances

    def judge(settings: tolerances.Alarms, number: int, *args: object) -> list[tolerances.Alarm]:
        found = real(settings, number, *args)  # type: ignore[arg-type]
        for each in found:
            each.alarm = number == 1 and each.statistic == "validity"
        return found

    monkeypatch.setattr("graft.evaluation.alarms.callback.check_tolerances", judge)


def test_monitored_by_default(finished: Path) -> None:
    """Each statistic and the reference's are in each round, without a setting."""
    run_summary = summary(finished)
    assert run_summary["alarms"] == [
        str(tolerances.Alarm(**each)) for each in run_summary["monitored"] if each["alarm"]
    ]
    assert not run_summary["stopped_by_alarm"] and run_summary["restored_round"] is None
    for number in (0, 1):
        names = {each["statistic"] for each in run_summary["monitored"] if each["round"] == number}
        assert names - {"feature_distance"} == ALWAYS
    own = {each["statistic"]: each["reference"] for each in run_summary["monitored"] if each["round"] == 0}
    assert all(each["reference"] == own[each["statistic"]] for each in run_summary["monitored"])
    with (finished / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["validation/reward"]]
    for each in run_summary["monitored"]:
        row = rows[each["round"]]
        assert float(row[f"validation/{each['statistic']}"]) == pytest.approx(each["tuned"])
        assert float(row[f"alarm/{each['statistic']}"]) == each["alarm"]
    assert "<td>alarms</td>" in (finished / "report.html").read_text()
    assert not (finished / "checkpoints" / "good.safetensors").exists()


def test_reference_has_the_same_noise(small: list[str]) -> None:
    """Not trained, the tuned model is the reference: every statistic is the same, nothing is beyond."""
    still = ["--model.optimizer.lr", "0", "--trainer.max_epochs", "1", "--data.evaluation.held_out_reward", *HELD_OUT]
    bands_ = "{validity: 0, atom_stability: 0, uniqueness: 0, internal_diversity: 0, held_out: 0, feature_distance: 0}"
    done(
        "fit",
        *small,
        *still,
        "--data.evaluation.alarms.tolerances",
        bands_,
        "--model.level",
        "0",
        "--model.tuning.ema_decay",
        "null",
    )
    run_summary = summary()
    assert run_summary["alarms"] == [] and {each["statistic"] for each in run_summary["monitored"]} >= ALWAYS | {
        "held_out"
    }
    for each in run_summary["monitored"]:
        if each["statistic"] != "feature_distance":
            assert each["tuned"] == each["reference"]
        else:
            assert each["tuned"] == pytest.approx(0, abs=1e-9)


def test_model_that_breaks(small: list[str]) -> None:
    """A learning rate that blows the network up raises an alarm, on the terminal and wherever results are kept."""
    much = [
        "--model.optimizer.lr",
        "0.03",
        "--model.lr_scheduler",
        "null",
        "--model.level",
        "0",
    ]
    much += [
        "--data.evaluation.validation_draws",
        "64",
        "--data.steps_per_round",
        "8",
        "--model.tuning.ema_decay",
        "null",
    ]
    result = done(
        "fit",
        *small,
        *much,
        "--data.evaluation.held_out_reward",
        *HELD_OUT,
        "--data.evaluation.held_out_reward.higher_is_better",
        "false",
    )
    run_summary = summary()
    assert run_summary["alarms"] and f"graft: alarm: {run_summary['alarms'][0]}" in result.out
    assert run_summary["alarms"][0] in Path(RUN, "report.html").read_text().replace("&#x27;", "'")
    rows = csv.DictReader(Path(RUN, "metrics.csv").read_text().splitlines())
    assert "1.0" in {row[name] for row in rows for name in row if "alarm/" in name}


def test_early_stop(small: list[str], alarm_in_the_second_round: None) -> None:
    """The weights of the last good round are restored and kept: those that drew the round of the alarm."""
    result = done("fit", *small, *STOP)
    assert "stopped by an alarm; the weights are those of round 1" in result.out
    run_summary = summary()
    assert run_summary["stopped_by_alarm"] and run_summary["restored_round"] == 0 and len(run_summary["rounds"]) == 2
    assert not Path(RUN, "rounds/2").exists()
    _, about = read_tensors(Path(RUN, "rounds/1/chunk_00000.safetensors"))
    parameters = {name.removeprefix("backbone/"): tensor for name, tensor in tuned().items()}
    trained = {name: tensor for name, tensor in parameters.items() if tensor.is_floating_point()}
    assert checksum(trained) == about["origin"]["weights"]
    good = load_file(Path(RUN, "checkpoints/good.safetensors"))
    assert all(torch.equal(good[name], tensor) for name, tensor in tuned().items())
    # and it resumes from there if it ended before its last file: nothing more is sampled
    whole = tuned()
    Path(RUN, "summary.json").unlink()
    done("fit", *small, *STOP, "--ckpt_path", "last")
    assert summary() == run_summary and all(torch.equal(whole[name], tensor) for name, tensor in tuned().items())
    assert not Path(RUN, "rounds/2").exists()


@pytest.mark.slow
def test_early_stop_in_a_run_that_goes_on(
    small: list[str], alarm_in_the_second_round: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import callbacks

    args = [*small, *STOP, "--trainer.callbacks", "callbacks.Killed"]
    done("fit", *args, "--run_dir", "whole")
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Killed, "on_train_batch_end", callbacks.interrupt())
        assert run("fit", *args).status == 130
    signal.signal(signal.SIGINT, handler)
    done("fit", *args, "--ckpt_path", "last")
    assert summary() == summary("whole")
    assert all(torch.equal(tuned("whole")[name], tensor) for name, tensor in tuned().items())


def test_alarm_in_the_first_round(small: list[str], reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then what the run started from is kept: here the reference."""
    real = tolerances.check_tolerances

    def judge(*args: object) -> list[tolerances.Alarm]:
        found: list[tolerances.Alarm] = real(*args)  # type: ignore[arg-type]
        found[0].alarm = True
        return found

    monkeypatch.setattr("graft.evaluation.alarms.callback.check_tolerances", judge)
    assert "the weights are those of the start" in done("fit", *small, *STOP).out
    assert summary()["restored_round"] is None and len(summary()["rounds"]) == 1
    before = load_file(reference)
    assert all(torch.equal(before[name], tensor) for name, tensor in tuned().items())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data.evaluation.alarms.tolerances", "{validty: 0.1}"], "'validty'; it must be one of valid_connected"),
        (["--data.evaluation.alarms.tolerances", "{validity: -0.1}"], "alarms.tolerances.validity is -0.1"),
        (
            ["--data.evaluation.alarms.tolerances", "{validity: much}"],
            "tolerances: Expected float",
        ),
        (["--data.evaluation.alarms.z", "-1"], "z is -1"),
        (["--data.evaluation.held_out_reward", "tried.nothing"], "'tried.nothing'"),
    ],
)
def test_bad_settings(flags: list[str], words: str, small: list[str], folder: Path) -> None:
    assert words in run("fit", *small, *flags).message
    assert not list(folder.rglob("chunk_*"))


@pytest.mark.parametrize("flags", [["--data.evaluation.alarms", "null"], ["--data.evaluation.validation_draws", "0"]])
def test_switched_off(flags: list[str], small: list[str]) -> None:
    result = done("fit", *small, "--trainer.max_epochs", "1", *flags)
    assert summary()["monitored"] == [] and "nothing was monitored" in result.out
    assert "alarm/" not in Path(RUN, "metrics.csv").read_text()


def test_left_out(small: list[str]) -> None:
    bands_ = "{validity: null, feature_distance: null, internal_diversity: null}"
    done("fit", *small, "--trainer.max_epochs", "1", "--data.evaluation.alarms.tolerances", bands_)
    names = {each["statistic"] for each in summary()["monitored"]}
    assert names == ALWAYS - {"validity", "internal_diversity"}


def test_domain_that_says_little(folder: Path) -> None:
    """A domain without features and metrics monitors only a held-out reward."""
    shutil.copytree(TOY / "domains", folder / "domains")
    quiet = ["--trainer.enable_progress_bar", "false"]
    done("pretrain", "--config", "domains/mixture/pretrain.yaml", "--trainer.max_epochs", "1", *quiet)
    args = ["fit", "--config", "domains/mixture/mixture.yaml", *quiet, "--trainer.max_epochs", "1"]
    args += ["--model.weights", "runs/pretrain/1/reference.safetensors"]
    done(*args)
    assert summary("runs/mixture/1")["monitored"] == []
    done(*args, "--data.evaluation.held_out_reward", "domains.mixture.Rightmost")
    (monitored,) = summary("runs/mixture/2")["monitored"]
    assert monitored["statistic"] == "held_out" and not monitored["alarm"]
