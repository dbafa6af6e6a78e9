"""The other commands: sample, validate, test, predict, pretrain, and the version and help."""

import csv
import json
import re
from pathlib import Path

import pytest
import yaml
from called import MOLECULE, QUIET, REWARD, SMALL, done, run
from rdkit import Chem

from graft import cli, runs
from graft.cli.parser import parse_and_build
from graft.io.paths import find_file
from graft.io.tensors import read_metadata

TESTED = [
    "--data.evaluation.validation_draws",
    "16",
    "--data.evaluation.test_draws",
    "16",
    "--model.steps",
    "8",
    *QUIET,
    *REWARD,
]


def molecules(path: "str | Path") -> list:
    return list(Chem.SDMolSupplier(str(path), sanitize=False, removeHs=False))


@pytest.mark.parametrize("how", ["folder", "file", "reference"])
def test_sample_from_a_run(how: str, finished: Path, reference: Path, folder: Path) -> None:
    """Without a configuration the weights describe their model."""
    weights = {"folder": finished, "file": finished / "tuned.safetensors", "reference": reference.parent}[how]
    result = done("sample", "--weights", weights, "-n", "7", "--out", "new/folder/a.sdf")
    assert "7 objects in new/folder/a.sdf" in result.out
    assert len(molecules("new/folder/a.sdf")) == 7 and not (folder / "runs").exists()


def test_sample_from_the_reference_that_ships(folder: Path) -> None:
    """A shipped file is found by name; its architecture is that of its configuration, without paths of a machine."""
    shipped = "domains/molecules/reference/drug_like.safetensors"
    done("sample", "--weights", shipped, "-n", "7", "--out", "a.sdf")
    assert len(molecules("a.sdf")) == 7
    _, config = parse_and_build("pretrain", ["--config", "domains/molecule_pretrain.yaml"])
    about = read_metadata(find_file(shipped))
    theirs, ours = (
        dict(runs.flatten_config(model)) for model in (about["architecture"], yaml.safe_load(config)["model"])
    )
    assert theirs.items() <= ours.items() and "config" not in about  # settings may have come since
    assert about["training"]["trainer.max_epochs"] == 50 and "model.optimizer.init_args.lr" in about["training"]


def test_sample_formats(finished: Path, folder: Path) -> None:
    for name in ("a.sdf", "a.smi", "a.csv", "a.png"):
        done("sample", "--weights", finished, "-n", "140", "--out", name)  # more than a chunk
    drawn = molecules("a.sdf")
    with open("a.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(drawn) == len(rows) == 140
    assert [row["valid"] for row in rows] == [mol.GetProp("valid") for mol in drawn]  # the same draws
    valid = [row["smiles"] for row in rows if row["valid"] == "1"]
    assert valid and Path("a.smi").read_text().splitlines() == valid
    assert all(Chem.MolFromSmiles(smiles) is not None for smiles in valid)
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_sample_repeats_itself(finished: Path) -> None:
    for name, extra in {
        "a": [],
        "b": ["--seed", "0"],
        "c": ["--seed", "1"],
        "level": ["--level", "0.5"],
        "steps": ["--steps", "4"],
    }.items():
        done("sample", "--weights", finished, "-n", "9", "--out", f"{name}.sdf", *extra)
    drawn = {name: Path(f"{name}.sdf").read_bytes() for name in ("a", "b", "c", "level", "steps")}
    assert drawn["a"] == drawn["b"] and len(set(drawn.values())) == 4


def test_sample_levels(finished: Path, reference: Path) -> None:
    """At a level near 1 the reference makes nearly the whole sample; the run's own level changes nothing."""
    for name, weights, extra in [
        ("own", finished, []),
        ("same", finished, ["--level", "0.125"]),
        ("high", finished, ["--level", "0.875"]),
        ("reference", reference, []),
    ]:
        done("sample", "--weights", weights, "-n", "9", "--out", f"{name}.sdf", *extra)
    assert Path("own.sdf").read_bytes() == Path("same.sdf").read_bytes()

    def apart(a: str, b: str) -> float:
        pairs = zip(molecules(f"{a}.sdf"), molecules(f"{b}.sdf"), strict=True)
        both = [[mol.GetConformer().GetPositions() for mol in pair] for pair in pairs]
        return sum(float(((x - y) ** 2).sum()) for x, y in both)

    assert 0 < apart("high", "reference") < apart("own", "reference")


def test_sample_refusals(finished: Path, folder: Path) -> None:
    good = ["sample", "--weights", finished, "--out", "a.sdf"]
    assert "-n is 0" in run(*good, "-n", "0").message
    assert "a.mol2" in run(*good, "-n", "1000000000", "--out", "a.mol2").message  # at once
    assert "[0, 1)" in run(*good, "-n", "2", "--level", "1").message
    assert "steps" in run(*good, "-n", "2", "--steps", "0").message
    assert "weights" in run("sample", "--out", "a.sdf").message
    assert "out" in run("sample", "--weights", finished).message
    (folder / "empty").mkdir()
    assert "tuned.safetensors" in run(*good, "--weights", "empty").message
    assert "'nowhere'" in run(*good, "--weights", "nowhere").message
    assert "number" in run(*good, "-n", "many").message
    (folder / "file").write_text("")
    assert "file" in run(*good, "-n", "2", "--out", "file/a.sdf").message
    assert sorted(path.name for path in folder.iterdir()) == ["empty", "file"]


def test_validate(finished: Path, small: list[str], folder: Path) -> None:
    """The command prints the validation of the last round of graft fit, from the same draws."""
    result = done("validate", *small, "--weights", finished)
    values = dict(re.findall(r"^(\w[\w ]*?) +([-\d.]+)$", result.out, re.M))
    assert {"reward", "reward stderr", "validity", "valid connected", "uniqueness", "n"} <= values.keys()
    with (finished / "metrics.csv").open(newline="") as file:
        last = [row for row in csv.DictReader(file) if row["validation/reward"]][-1]
    assert float(values["reward"]) == pytest.approx(float(last["validation/reward"]), rel=1e-3)
    assert float(values["n"]) == 16 and not (folder / "runs").exists()


def test_test(finished: Path, small: list[str], folder: Path) -> None:
    """The command prints the figures of the comparison of graft fit."""
    result = done("test", *small, "--weights", finished)
    rows = {
        match[1]: match.groups()[1:] for match in re.finditer(r"^(\w[\w ]*?) +([-\d.]+) +([-\d.]+)$", result.out, re.M)
    }
    summary = json.loads((finished / "summary.json").read_text())
    for name in ("reward", "validity", "atom stability"):
        wanted = [summary[side][name.replace(" ", "_")] for side in ("reference", "tuned")]
        assert [float(value) for value in rows[name]] == pytest.approx(wanted, rel=1e-3)
    assert not (folder / "runs").exists()


def test_test_without_weights_compares_equals(reference: Path) -> None:
    result = done("test", *MOLECULE, "--model.weights", reference, *TESTED)
    (values,) = re.findall(r"^reward +([-\d.]+) +([-\d.]+)$", result.out, re.M)
    assert values[0] == values[1]


def test_predict(finished: Path, small: list[str], folder: Path) -> None:
    done("predict", *small, "--weights", finished)
    run = folder / "runs/molecule_predict/1"
    assert len(molecules(run / "samples.sdf")) == 32
    done("predict", *small, "--weights", finished, "--run_dir", "mine")
    assert (folder / "mine/samples.sdf").read_bytes() == (run / "samples.sdf").read_bytes()


def test_pretrain(reference: Path, folder: Path) -> None:
    """The run that made the reference of all these tests."""
    run = reference.parent
    summary = json.loads((run / "summary.json").read_text())
    assert summary["steps"] > 0 and summary["parameters"] > 1000 and summary["reference"]["n"] == 1000
    assert 0 <= summary["reference"]["validity"] <= 1
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert {"config.yaml", "metrics.csv", "checkpoints/last.ckpt", "samples/reference.sdf"} <= names
    header, *rows = (run / "metrics.csv").read_text().splitlines()
    assert "train/loss" in header and "validation/loss" in header and rows


OTHER = ("sample", "hits", "evaluate", "rate", "new")
"""Commands that take a run or a name, and no settings of a configuration."""


@pytest.mark.parametrize("command", [name for name in cli.COMMANDS if name not in OTHER])
def test_help_explains_settings(command: str) -> None:
    other = {"pretrain": "domains/molecule_small_pretrain.yaml", "correct": "domains/image_flow.yaml"}
    config = other.get(command, "domains/molecule.yaml")
    result = done(command, "--config", config, "--help")
    assert not result.err
    for setting in ("--run_dir", "--weights", "--trainer.max_epochs", "--seed_everything"):
        assert setting in result.out
    assert "u* in [0, 1), a fraction of the sampler's steps" in re.sub(r"\s+", " ", result.out)  # the model's
    if command == "pretrain":
        assert "max_heavy_atoms" in result.out
    elif command == "correct":
        assert "--data.fixed_point_solver" in result.out and "--data.dequantize_std" in result.out
    else:
        assert "--data.steps_per_round" in result.out and "Number of optimizer steps in a round" in result.out
        assert "--data.accept.fraction" in result.out  # of the rule that the config names
        assert "a fixed value for all others" in re.sub(r"\s+", " ", result.out)  # of the reward
    assert result.out.count("usage: graft") >= 1 and len(set(result.out.splitlines())) > 100


@pytest.mark.parametrize("command", ["sample", "hits", "evaluate"])
def test_help_of_sample(command: str) -> None:
    result = done(command, "--help")
    assert all(setting in result.out for setting in ("--weights", "-n", "--out", "--seed", "--level", "--steps"))


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_help(args: list[str]) -> None:
    result = done(*args)
    assert all(re.search(rf"^  {command} ", result.out, re.M) for command in cli.COMMANDS)


def test_version() -> None:
    result = done("--version")
    assert re.match(r"graft \d+\.\d+\.\d+ python \d+\.\d+\S* torch \S+ lightning \S+\n$", result.out)


def test_small_flags_are_settings() -> None:
    """Each of the tests' own flags has an effect: no name is unused."""
    given = done("fit", *MOLECULE, *SMALL, *REWARD, "--print_config").out
    assert all(
        f"{name.rpartition('.')[2]}: {value}" in given for name, value in zip(SMALL[::2], SMALL[1::2], strict=True)
    )
