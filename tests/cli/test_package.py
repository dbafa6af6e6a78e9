"""Installed packages: the wheel, the sdist, the editable install, and the domain of another package."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from called import TOY, done

REPOSITORY = Path(__file__).parents[2]

USE = """
import sys
from pathlib import Path
# the editable install of the tests' environment must not stand in for the installed package
repository, installed = map(Path, sys.argv[1:])
sys.path = [p for p in sys.path if Path(p).resolve() != repository]
import graft
assert Path(graft.__file__).parents[1] == installed, graft.__file__
from graft.cli import main
for line in sys.stdin.read().splitlines():
    status = main(line.split())
    assert status == 0, (line, status)
"""


def call(*args: object, **settings: object) -> str:
    """The output of a program that must end well."""
    done = subprocess.run([str(arg) for arg in args], capture_output=True, text=True, timeout=200, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the sdist, and the wheel that is made from it."""
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, REPOSITORY)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel installed in it, and nothing else."""
    folder = tmp_path_factory.mktemp("site").resolve()
    _install(next(built.glob("*.whl")), folder)
    return folder


def _install(what: Path, target: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    call(*pip, "--no-deps", "--no-index", "--no-build-isolation", "--target", target, what)


def test_wheel(built: Path) -> None:
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        about = {name.partition("/")[2]: wheel.read(name).decode() for name in names if ".dist-info/" in name}
    assert {
        "graft/cli/__init__.py",
        "graft/py.typed",
        "graft/process/gaussian.py",
        "domains/molecules/module.py",
    } <= names
    modules = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "graft").rglob("*.py")}
    assert modules <= names  # whatever .gitignore says of folders that are called as outputs are
    assert "domains/molecules/reference/drug_like.safetensors" in names
    assert "domains/__init__.py" not in names  # with it, no other package could ship a domain
    configs = {str(path.relative_to(REPOSITORY)) for path in (REPOSITORY / "configs").rglob("*.yaml")}
    assert {name.removeprefix("graft/") for name in names if name.startswith("graft/configs/")} == configs
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"graft", "domains"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert "graft = graft.cli:console" in about["entry_points.txt"]
    assert "Name: graft-diffusion" in about["METADATA"] and "License-Expression: Apache-2.0" in about["METADATA"]
    assert "licenses/LICENSE" in about


def test_sdist(built: Path) -> None:
    """The sdist has the files of its own tests."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    here = {str(path.relative_to(REPOSITORY)) for path in Path(__file__).parent.glob("*.py")}
    assert (
        here | {"graft/cli/messages.py", "configs/domains/molecule.yaml", "README.md", "LICENSE", "pyproject.toml"}
        <= names
    )
    assert "domains/molecules/reference/drug_like.safetensors" in names


def test_installed_wheel_and_another_package_s_domain(installed: Path, folder: Path) -> None:
    """From another folder, with the shipped reference; and a domain that graft does not know."""
    plugin = folder / "plugin"
    _install(shutil.copytree(TOY, folder / "source"), plugin)
    work = folder / "work"
    work.mkdir()
    quiet = "--trainer.enable_progress_bar false"
    lines = [
        "fit --config domains/molecule.yaml --data.draws 32 --data.batch_size 32 --data.steps_per_round 1 "
        f"--data.evaluation.validation_draws 0 --data.evaluation.test_draws 8 --model.steps 8 --trainer.max_epochs 1 "
        f"{quiet}",
        f"pretrain --config domains/mixture/pretrain.yaml {quiet}",
        f"fit --config domains/mixture/mixture.yaml --model.weights runs/pretrain/1/reference.safetensors {quiet}",
        "sample --weights runs/mixture/1 -n 20 --out points.csv",
    ]
    paths = os.pathsep.join(map(str, (installed, plugin)))
    call(
        *(sys.executable, "-W", "error::UserWarning", "-c", USE, REPOSITORY, installed),
        **{"input": "\n".join(lines), "cwd": work, "env": {**os.environ, "PYTHONPATH": paths}},
    )
    assert (work / "runs/molecule/1/tuned.safetensors").exists()
    assert len((work / "points.csv").read_text().splitlines()) == 20
    summary = json.loads((work / "runs/mixture/1/summary.json").read_text())
    assert summary["tuned"]["n"] == 256 and len(summary["rounds"]) == 2


def test_editable_from_any_folder(folder: Path) -> None:
    """Both ways to call the command work from an empty folder."""
    program = Path(sys.executable).with_name("graft")
    assert "graft COMMAND" in call(program, "--help", cwd=folder)
    refused = subprocess.run([sys.executable, "-m", "graft", "fit"], cwd=folder, capture_output=True, text=True)
    assert refused.returncode == 2 and "domains/molecule.yaml" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_domain_in_the_current_folder(folder: Path) -> None:
    """No package is needed: domains/<name>/ in the folder of the runs is found, and fine-tuning works."""
    shutil.copytree(TOY / "domains", folder / "domains")
    quiet = ["--trainer.enable_progress_bar", "false"]
    done("pretrain", "--config", "domains/mixture/pretrain.yaml", "--trainer.max_epochs", "30", *quiet)
    weights = ["--model.weights", "runs/pretrain/1/reference.safetensors"]
    flags = ["--data.steps_per_round", "100", "--data.draws", "1024", "--data.evaluation.test_draws", "2000", *quiet]
    result = done("fit", "--config", "domains/mixture/mixture.yaml", *weights, *flags)
    assert "x (m)" in result.out
    run = folder / "runs/mixture/1"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["gain"]["reward"] > 3 * (summary["reference"]["reward_stderr"] + summary["tuned"]["reward_stderr"])
    assert 0.3 < summary["gain"]["of_accepted"] < 1.3
    assert [summary["rounds"][0][key] for key in ("failed_rewards", "duplicates")] == [0, 0]  # a domain without keys
    assert sorted(path.name for path in (run / "samples").iterdir()) == ["reference.csv", "tuned.csv"]  # nor pictures
    assert "<img" not in (run / "report.html").read_text()


def test_toy_is_short() -> None:
    """The claim that a domain takes fewer than 100 lines."""
    assert len((TOY / "domains/mixture/__init__.py").read_text().splitlines()) < 100
