"""``graft correct`` from the command line: its run, its files, its resumption and its refusals.

On a third party's domain, which has classes and neither features nor pictures, and on the digits that ship.
"""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from called import HERE, MOLECULE, TOY, done, run
from fenced import check_schema
from safetensors.torch import load_file
from test_processes import DOUBLE, TWO, alike, output, start

from graft.io.page import policy

SIGNALLED = ["--trainer.callbacks", "signalled.Signalled"]
QUIET = ["--trainer.enable_progress_bar", "false"]
CONFIG = """
# Correction of the toy
model:
  class_path: domains.mixture.Mixture
  init_args:
    backbone: {class_path: domains.mixture.Network}
    process:
      class_path: graft.process.Gaussian
      init_args: {schedule: {class_path: graft.process.CosineSchedule}, prediction_type: v, shape: [2], eta: 0}
    steps: 6
    corrector:
      class_path: graft.network.NoiseCorrector
      init_args:
        process: {class_path: graft.process.TrigFlow, init_args: {shape: [2]}}
        backbone: {class_path: domains.mixture.Network, init_args: {width: 8}}
        steps: 2
    weights: reference.safetensors
data:
  source: {class_path: domains.mixture.Points}
  batch_size: 64
  steps_per_epoch: 5
  num_certificate_draws: 16
  test_draws: 100
  num_repeats: 2
  baseline_steps: [2, 4]
trainer: {max_epochs: 2, accelerator: cpu, log_every_n_steps: 1}
"""


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixture")
    shutil.copytree(TOY / "domains", folder / "domains")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done("pretrain", "--config", "domains/mixture/pretrain.yaml", *QUIET, "--run_dir", "run")
    return folder


@pytest.fixture
def work(folder: Path, pretrained: Path) -> Iterator[Path]:
    shutil.copytree(pretrained / "domains", folder / "domains")
    shutil.copy(pretrained / "run/reference.safetensors", folder)
    (folder / "toy.yaml").write_text(CONFIG)
    yield folder


def correct(*flags: object) -> list[object]:
    return ["correct", "--config", "toy.yaml", *QUIET, *flags]


def read_summary(run_dir: Path) -> dict:
    content = json.loads((run_dir / "summary.json").read_text())
    return {name: value for name, value in content.items() if name != "seconds"}


def test_run(work: Path) -> None:
    """The files, and one saved thing that is drawn from."""
    message = done(*correct()).out
    made = work / "runs/toy/1"
    summary = read_summary(made)
    assert (
        summary["inversion"]["samples"] == 128 == summary["distance"]["held_out"]
        and summary["steps"] == 6
        and summary["solver"] == "Euler"
    )
    assert {row["name"] for row in summary["frontier"]} == {"flow", "corrected", "Gaussian", "trained longer"}
    assert (
        "known noise recovered" in message and "corrected" in message and str(Path("runs/toy/1/report.html")) in message
    )
    page = (made / "report.html").read_text()
    assert policy() in page
    assert "sliced wasserstein" in page and "graft correct --config toy.yaml" in page and "held-out loss" in page
    assert (made / "frontier.png").read_bytes()[:4] == b"\x89PNG"
    check_schema("correct_summary", made, [{"inversion": {}}, {"frontier": [{}]}, {"another": 1}])
    own = {name for name in load_file(made / "tuned.safetensors") if name.startswith("backbone/")}
    assert load_file(made / "tuned.safetensors")["backbone/last.weight"].shape == (2, 8) and len(own) == 6
    done("sample", "--weights", made, "-n", "9", "--out", "a.csv", "--seed", "3")
    done("sample", "--weights", made, "-n", "9", "--out", "b.csv", "--seed", "3")
    done("sample", "--weights", "reference.safetensors", "-n", "9", "--out", "c.csv", "--seed", "3", "--steps", "6")
    drawn = [Path(f"{name}.csv").read_bytes() for name in "abc"]
    assert drawn[0] == drawn[1] != drawn[2]


def test_card(work: Path) -> None:
    """The card has the facts of the run, the rows of the comparison, and lines that run."""
    done(*correct())
    made = work / "runs/toy/1"
    summary, card = read_summary(made), (made / "CARD.md").read_text()
    assert card.startswith("---\nlibrary_name: graft\ntags: [graft, noise-correction]\n---\n\n# tuned.safetensors\n")
    for words in (
        "| model | `domains.mixture.Mixture` |",
        "| frozen flow | `reference.safetensors` |",
        "| samples inverted | 128 of 128 |",
        f"{summary['distance']['n']} samples and {summary['distance']['n']} of 128 held-out data",
        f"graft {summary['versions']['graft']}, python",
        "graft correct --config toy.yaml",
        "It knows no reward.",
    ):
        assert words in card, words
    names = {row["name"] for row in summary["frontier"]}
    assert all(re.search(rf"^\| *{name}\b", card, re.MULTILINE) for name in names)
    weights = str(made / "tuned.safetensors")
    (command,) = re.findall(r"^graft sample .*$", card, re.MULTILINE)
    done(*shlex.split(command.replace("tuned.safetensors", weights).replace("FILE", "a.csv"))[1:])
    (script,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    found: dict[str, list] = {}
    exec(script.replace("tuned.safetensors", weights), found)
    assert len(found["objects"]) == 16


def test_solver_from_the_command_line(work: Path) -> None:
    done(
        *correct(
            "--model.solver",
            "graft.solvers.Midpoint",
            "--data.fixed_point_solver",
            "Newton",
            "--data.train_longer_baseline",
            "false",
        )
    )
    summary = read_summary(work / "runs/toy/1")
    assert summary["solver"] == "Midpoint" and summary["trained_longer"] is None
    corrected = next(row for row in summary["frontier"] if row["name"] == "corrected")
    assert corrected["flops"] == 12 * summary["flops"]["call"] + 2 * summary["flops"]["corrector_call"]
    done("sample", "--weights", "runs/toy/1", "-n", "3", "--out", "a.csv")


def test_interruption(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the second epoch, the run resumes to the result of an uninterrupted one and inverts nothing again."""
    import callbacks

    args = correct("--trainer.callbacks", "callbacks.Killed")
    done(*args, "--run_dir", "runs/whole/1")
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Killed, "on_train_batch_end", callbacks.interrupt())
        assert run(*args).status == 130
    signal.signal(signal.SIGINT, handler)
    resumed, whole = work / "runs/toy/1", work / "runs/whole/1"
    before = {path: path.stat().st_mtime_ns for path in (resumed / "recovered").iterdir()}
    done(*args, "--ckpt_path", "last")
    assert len(before) == 3 and before == {path: path.stat().st_mtime_ns for path in (resumed / "recovered").iterdir()}
    for name in ("tuned.safetensors", "metrics.csv", "longer.safetensors"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name
    assert read_summary(resumed) == read_summary(whole)


@pytest.fixture(scope="module")
def whole(pretrained: Path) -> Path:
    """The folder of a run that nothing interrupts."""
    (pretrained / "toy.yaml").write_text(CONFIG)
    shutil.copy(pretrained / "run/reference.safetensors", pretrained)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(pretrained)
        done(*correct(*SIGNALLED, "--run_dir", "whole"))
    return pretrained / "whole"


def resumed_as(whole: Path, run_dir: Path) -> None:
    """Resume: no file on disk is made again, and the result is that of an uninterrupted run."""
    before = {path: path.stat().st_mtime_ns for path in (run_dir / "recovered").iterdir()}
    assert not (run_dir / "summary.json").exists()
    done(*correct(*SIGNALLED, "--run_dir", run_dir.name, "--ckpt_path", "last"))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    for name in ("tuned.safetensors", "metrics.csv", "longer.safetensors"):
        assert (run_dir / name).read_bytes() == (whole / name).read_bytes(), name
    assert read_summary(run_dir) == read_summary(whole)
    assert not list(run_dir.rglob("*.part*"))


@pytest.mark.parametrize(
    ("place", "number", "words", "chunks"),
    [
        ("inverting", signal.SIGTERM, "while inverting the data", 2),
        pytest.param("training longer", signal.SIGTERM, "in the comparison at the end", 3, marks=pytest.mark.slow),
        pytest.param("measuring", signal.SIGINT, "in the comparison at the end", 3, marks=pytest.mark.slow),
    ],
)
def test_signals(
    place: str, number: int, words: str, chunks: int, whole: Path, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command ends with the signal's status, prints how to resume, and restores the handlers."""
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        patch.setenv("TRIED_PLACE", place)
        patch.setenv("TRIED_SIGNAL", str(int(number)))
        result = run(*correct(*SIGNALLED, "--run_dir", "cut"))
    assert result.status == 128 + number
    assert f"interrupted {words}, nothing is lost; resume with: graft correct" in result.err
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert len(list(Path("cut/recovered").iterdir())) == chunks
    resumed_as(whole, work / "cut")


@pytest.mark.parametrize("place", [pytest.param("inverting", marks=pytest.mark.slow), "measuring"])
def test_killed(place: str, whole: Path, work: Path) -> None:
    """A kill as of a machine that runs out of memory: no message."""
    environment = {"TRIED_PLACE": place, "TRIED_SIGNAL": str(int(signal.SIGKILL))}
    killed = subprocess.run(
        [sys.executable, "-m", "graft", *map(str, correct(*SIGNALLED, "--run_dir", "cut"))],
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    resumed_as(whole, work / "cut")


@pytest.mark.slow
def test_two_processes(work: Path) -> None:
    """Two processes have the result of one: the same noise, the same corrector up to the order of sums, one summary."""
    flags = [*DOUBLE, "--data.train_longer_baseline", "false", "--data.train_batch_size", "32"]
    done(*correct(*flags, "--run_dir", "one"))
    assert output(start(*correct(*flags, *TWO, "--run_dir", "two"))).count("known noise recovered") == 1
    alike(load_file("two/tuned.safetensors"), load_file("one/tuned.safetensors"), 1e-9)
    ours, theirs = read_summary(work / "two"), read_summary(work / "one")
    assert ours["inversion"] == theirs["inversion"]
    assert ours["conclusion"]["distance"] == pytest.approx(theirs["conclusion"]["distance"], rel=1e-6)
    odd = ["--data.train_batch_size", "33", "--run_dir", "odd"]
    assert "be a multiple of 2" in output(start(*correct(*flags, *TWO, *odd)), 2)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model.process.init_args.eta", "1"], "set eta=0"),
        (["--model.process.init_args.prediction_type", "x0"], "keeps nothing"),
        (["--model.corrector", "null", "--model.level", "0"], "Give model.corrector"),
        (["--model.weights", "null"], "give model.weights"),
        (["--model.solver", "Heunn"], "Heunn"),
        (["--data.fixed_point_solver", "Nonsense"], "Nonsense"),
        (["--data.source", "nowhere.Data"], "nowhere"),
        (["--data.samples", "1"], "data.samples is 1"),
        (["--data.dequantize_std", "some"], "data.dequantize_std"),
        (
            ["--data.fixed_point_solver", "Anderson", "--data.fixed_point_solver.iterations", "1"],
            "could not be inverted",
        ),
        (["--data.max_round_trip_error", "1e-30"], "came back more than 1e-30"),
        (["--trainer.max_epochs", "0"], "trainer.max_epochs is 0"),
        (["--trainer.reload_dataloaders_every_n_epochs", "0"], "reload_dataloaders_every_n_epochs=1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(flags: list[str], words: str, work: Path) -> None:
    assert words in run(*correct(*flags)).message
    assert not list(work.rglob("summary.json"))


def test_configurations_of_other_commands(work: Path) -> None:
    assert "use it with graft fit" in run("correct", *MOLECULE).message
    assert "use it with graft correct" in run("fit", "--config", "toy.yaml").message
    assert "use it with graft pretrain" in run("correct", "--config", "domains/mixture/pretrain.yaml").message


def test_other_settings_do_not_take_over_what_was_inverted(work: Path) -> None:
    """A folder with noise of another flow is refused; nothing of it is lost."""
    done(*correct("--data.train_longer_baseline", "false"))
    shutil.copytree("runs/toy/1/recovered", "other/recovered")
    kept = {path.name: path.read_bytes() for path in Path("other/recovered").iterdir()}
    assert "must be empty" in run(*correct("--model.steps", "8", "--run_dir", "other")).message
    config = Path("runs/toy/1/config.yaml").read_text()
    steps = next(line for line in config.splitlines() if line.startswith("    steps: "))
    config = config.replace("train_longer_baseline: false", "train_longer_baseline: true")
    Path("other/config.yaml").write_text(config.replace(steps, "    steps: 8"))
    resumed = correct("--model.steps", "8", "--run_dir", "other", "--ckpt_path", "last")
    assert "recovered with another steps" in run(*resumed).message
    assert kept == {path.name: path.read_bytes() for path in Path("other/recovered").iterdir()}


sys.modules.pop("domains.mixture", None)  # another test's, in a folder that is gone
