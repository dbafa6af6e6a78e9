"""Noise shaping from the command line: a corrector's run, its files, its resumption and its refusals."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from called import HALF, HERE, MOLECULE, QUIET, REWARD, SMALL, done, run
from safetensors import safe_open
from safetensors.torch import load_file

KINDS = {"flow": "corrector/molecule.yaml", "gaussian": "corrector/gaussian.yaml"}
ETA = "--model.process.init_args.fields.{}.init_args.eta"
FEW = {  # a smaller network and a shorter clock of its own
    "flow": ["--model.corrector.backbone.init_args.hidden_dim", "16", "--model.corrector.steps", "3"],
    "gaussian": [],
}
ONE = ["--trainer.max_epochs", "1", "--data.evaluation.validation_draws", "0", "--data.evaluation.test_draws", "16"]


@pytest.fixture(scope="module")
def given(reference: Path) -> list[str]:
    """Arguments of a run with deterministic steps, before the corrector's."""
    ode = ["--config", "process/molecule_ode.yaml"]
    return [*MOLECULE, *ode, "--model.weights", str(reference), *QUIET, *REWARD, *HALF]


def fit(given: list[str], kind: str, *flags: object) -> list[object]:
    types = ["--model.corrector.init_args.backbone.init_args.num_types", "10"] if kind == "flow" else []
    return ["fit", *given, "--config", KINDS[kind], *types, *FEW[kind], *SMALL, *flags]


def process(shape: str, projection: str) -> list[str]:
    """A process of the corrector's own with such positions."""
    x = f"{{class_path: TrigFlow, init_args: {{shape: {shape}, projection: {projection}}}}}"
    h = "{class_path: TrigFlow, init_args: {shape: [8, 10], projection: MaskProjection}}"
    fields = f"{{x: {x}, h: {h}}}"
    return ["--model.corrector.process", f"{{class_path: MultiFieldProcess, init_args: {{fields: {fields}}}}}"]


def summary(run: Path) -> dict:
    content = json.loads((run / "summary.json").read_text())
    return {name: value for name, value in content.items() if name != "seconds"}


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        ("flow", "current"),
        ("gaussian", "reference"),
        pytest.param("flow", "reference", marks=pytest.mark.slow),
        pytest.param("gaussian", "current", marks=pytest.mark.slow),
    ],
)
def test_run(kind: str, source: str, folder: Path, given: list[str], reference: Path) -> None:
    """The files hold the corrector only and name the reference; they are enough to draw from."""
    done(*fit(given, kind, "--data.source", source))
    made = folder / "runs/molecule/1"
    run_summary = summary(made)
    steps = {"flow": 3, "gaussian": 1}[kind]
    assert run_summary["objective"] == "noise shaping" and run_summary["level"] == 1
    assert run_summary["denoiser_calls"] == 2 * 64 * (8 + steps * (source == "current"))
    assert run_summary["evaluation_denoiser_calls"] == 32 * (16 + steps)
    with safe_open(made / "tuned.safetensors", "pt") as file:
        about = json.loads(file.metadata()["graft"])
    assert about["reference"]["path"] == reference.name and about["level"] == 1
    tensors = load_file(made / "tuned.safetensors")
    own = {name.removeprefix("backbone/") for name in tensors if name.startswith("backbone/")}
    layers = {name for name in own if name.startswith("layers.")}
    if kind == "flow":  # three layers of the corrector's width; the reference has two, of another
        assert "layers.2.node.0.weight" in layers and len(tensors["backbone/layers.0.node.0.weight"]) == 16
    else:
        assert "root" in own and not layers
    checkpoint = torch.load(made / "checkpoints/last.ckpt", weights_only=True)
    assert {name.split(".")[1] for name in checkpoint["state_dict"]} <= {"backbone", "ema"}
    recorded = load_file(made / "rounds/0/accepted.safetensors")
    assert {"step/0/x", "step/0/h"} <= recorded.keys()
    assert float(recorded["step/0/x"].sum(1).abs().max()) < 1e-4

    done("sample", "--weights", made, "-n", "9", "--out", "a.sdf")
    done("sample", "--weights", made / "rounds/1", "-n", "9", "--out", "same.sdf")
    done("sample", "--weights", made / "rounds/0", "-n", "9", "--out", "b.sdf")
    done("sample", "--weights", reference, "-n", "9", "--steps", "8", "--out", "c.sdf")
    drawn = [Path(f"{name}.sdf").read_bytes() for name in ("a", "same", "b", "c")]
    assert drawn[0] == drawn[1] and len(set(drawn)) == 3


@pytest.mark.parametrize(("kind", "killed"), [pytest.param("flow", True, marks=pytest.mark.slow), ("gaussian", False)])
def test_interruption(kind: str, killed: bool, folder: Path, given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that resumes its second of three rounds, while the clock goes back, gives an uninterrupted run's files."""
    import callbacks

    args = fit(given, kind, "--trainer.callbacks", "callbacks.Killed", "--trainer.max_epochs", "3")
    args += ["--data.source", "current", "--data.steps_per_round", "4"]
    done(*args, "--run_dir", "whole")
    if killed:
        ended = subprocess.run(
            [sys.executable, "-m", "graft", *map(str, args)],
            env={**os.environ, "TRIED_KILL": "training", "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
            capture_output=True,
            text=True,
            timeout=200,
        )
        assert ended.returncode == -signal.SIGKILL, ended.stderr
    else:
        handler = signal.getsignal(signal.SIGINT)
        with monkeypatch.context() as patch:
            patch.setattr(callbacks.Killed, "on_train_batch_end", callbacks.interrupt())
            assert run(*args).status == 130
        signal.signal(signal.SIGINT, handler)
    with monkeypatch.context() as patch:
        hours = itertools.count()
        patch.setattr(time, "time", lambda: 1.7e9 - 3600 * next(hours))
        done(*args, "--ckpt_path", "last")
    resumed, whole = folder / "runs/molecule/1", folder / "whole"
    one, other = (load_file(run / "tuned.safetensors") for run in (resumed, whole))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    for name in ("metrics.csv", "rounds/2/accepted.safetensors", "samples/tuned.sdf"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name
    assert summary(resumed) == summary(whole)


def test_draws_are_shared_with_other_runs(folder: Path, given: list[str]) -> None:
    """The reference draws the same with and without a corrector, which learns from the noise that was recorded."""
    done("fit", *given, *SMALL, *ONE, "--model.level", "0", "--data.storage.record_levels", "[1.0]")
    done(*fit(given, "gaussian", *ONE, "--data.storage.reuse_runs", "[runs/molecule/1]"))
    run_summary = summary(folder / "runs/molecule/2")["rounds"][0]
    assert run_summary["reused"] == 64 and run_summary["denoiser_calls"] == run_summary["reward_calls"] == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model.level", "0.5"], "model.level is 0.5, but model.corrector shapes the noise"),
        (["--model.level", "auto"], "leave out model.level"),
        (["--model.corrector", "null", "--model.level", "1"], "give model.corrector and leave out model.level"),
        ([ETA.format("x"), "1"], "set eta=0"),
        ([ETA.format("h"), "0.5"], "set eta=0"),
        (["--model.lora.rank", "4"], "no model.lora"),
        (["--model.weights", "null"], "give model.weights"),
        (["--model.corrector.steps", "0"], "model.corrector.steps is 0"),
        (process("[7, 3]", "ZeroCenterOfMass"), "the shape of x is 7x3 there"),
        (process("[8, 3]", "MaskProjection"), "the projection of x is MaskProjection"),
        (["--model.objective", "PolicyGradient"], "not a corrector"),
        (["--model.objective", "DiffusionNFT"], "not a corrector"),
        (["--model.objective", "Shaping", "--model.objective.target", "renoised"], "biased"),
        (["--weights", "reference"], "does not fit the network"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(flags: list[str], words: str, folder: Path, given: list[str], reference: Path) -> None:
    flags = [str(reference) if flag == "reference" else flag for flag in flags]
    assert words in run(*fit(given, "flow", *ONE, *flags)).message
    assert not list(folder.rglob("chunk_*"))


def test_refusals_of_sample(folder: Path, given: list[str]) -> None:
    done(*fit(given, "gaussian", *ONE))
    weights = ["--weights", "runs/molecule/1", "--out", "a.sdf"]
    assert "leave out model.level" in run("sample", *weights, "--level", "0.5").message
    assert "another network" in run("sample", *weights, "--interpolate", "0.5").message


def test_no_comparison_of_methods_with_a_corrector(given: list[str]) -> None:
    """Methods of a comparison tune the model itself."""
    message = run("compare", *fit(given, "gaussian", *ONE)[1:], "--methods", "pgraft", "--seeds", "0").message
    assert "pgraft tunes the model itself: leave out model.corrector" in message
