"""The README's commands and programs run as they stand, with settings appended that make the runs small."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from graft.cli import main

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SMALL = [
    "--model.steps=8",
    "--data.draws=64",
    "--data.batch_size=32",
    "--data.steps_per_round=4",
    "--data.evaluation.validation_draws=8",
    "--data.evaluation.test_draws=16",
    "--trainer.enable_progress_bar=false",
]


def blocks(mark: str) -> list[str]:
    """The fenced blocks after ``<!-- mark -->``."""
    found = re.findall(rf"<!-- {re.escape(mark)} -->\n```\w*\n(.*?)```", README, re.DOTALL)
    assert found, f"the README has no block marked {mark!r}"
    return found


def run(line: str) -> None:
    words = shlex.split(line)
    assert words[0] == "graft"
    one = [*SMALL, "--trainer.max_epochs=1"]
    compared = [*one, "--seeds=0", "--methods=pgraft,best_of:2"]
    small = {"fit": one, "levels": SMALL, "compare": compared, "pretrain": ["--trainer.enable_progress_bar=false"]}
    assert main([*words[1:], *small.get(words[1], [])]) == 0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("points", "rewards", "filtered"):
        sys.modules.pop(name, None)


def test_quick_commands(folder: Path) -> None:
    install, command = blocks("run")[0].split("&&")
    assert "pip install -e ." in install
    programs = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (folder / "rewards.py").write_text(next(program for program in programs if "MolWt" in program))
    run(command.strip())
    for block in blocks("quick"):
        for line in block.strip().splitlines():
            run(line)
    assert (folder / "molecules.sdf").exists()
    assert (folder / "runs/molecule/5/summary.json").exists()


def test_own_objective(folder: Path) -> None:
    (folder / "filtered.py").write_text(blocks("file: filtered.py")[0])
    run(blocks("objective")[0].strip())
    assert '"Filtered"' in (folder / "runs/molecule/1/summary.json").read_text()


def test_python(folder: Path) -> None:
    block = blocks("python")[0]
    assert len(block.strip().splitlines()) <= 10
    flags = ", ".join(repr(flag) for flag in SMALL)
    namespace: dict[str, object] = {}
    exec(block.replace('"--data.draws=512"', flags), namespace)
    assert len(namespace["molecules"]) == 100


def test_domain_and_wrapped_network(folder: Path) -> None:
    source, config = blocks("file: points.py")[0], blocks("file: points.yaml")[0]
    assert len(source.splitlines()) < 100
    (folder / "points.py").write_text(source)
    (folder / "points.yaml").write_text(config)
    for line in blocks("domain")[0].strip().splitlines():
        run(line)
    assert (folder / "runs/points/1/samples/tuned.csv").read_text().count("\n") == 16
    exec(blocks("wrap")[0].replace("accelerator=", "enable_progress_bar=False, accelerator="), {})
    assert (folder / "runs/mine/tuned.safetensors").exists()


def test_test_command_is_what_ci_runs() -> None:
    assert 'pip install -e ".[dev]" && pytest' in blocks("test")[0]
    assert "README.md" in (Path(__file__).parents[2] / ".ci/run").read_text()
