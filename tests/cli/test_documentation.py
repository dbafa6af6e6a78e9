"""README.md and docs/: every command and every snippet runs as it stands, with settings appended that make it small."""

import importlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from called import QUIET, done
from fenced import ROOT, Block, blocks, check_schema, marked, pages
from jsonargparse import ArgumentParser

import graft
from graft import cli

SMALL = [
    "--model.steps=8",
    "--data.draws=64",
    "--data.batch_size=32",
    "--data.steps_per_round=4",
    "--data.evaluation.validation_draws=8",
    "--data.evaluation.test_draws=16",
    "--trainer.enable_progress_bar=false",
]
ONE = [*SMALL, "--trainer.max_epochs=1"]
APPENDED = {
    "fit": ONE,
    "levels": SMALL,
    "compare": [*ONE, "--seeds=0", "--methods=pgraft,best_of:2"],
    "pretrain": QUIET,
    "check": QUIET,
    "new": [],
    "sample": ["-n", "4"],
    "hits": ["-n", "4"],
    "evaluate": ["-n", "16", "--runs", "1"],
    "correct": [
        *QUIET,
        *["--data.samples=12", "--data.num_dequantizations=1", "--data.num_certificate_draws=2"],
        *["--data.steps_per_epoch=2", "--data.train_batch_size=8", "--data.num_repeats=1", "--data.baseline_steps=[1]"],
        *["--data.test_draws=6", "--data.train_longer_baseline=false", "--trainer.max_epochs=1"],
        "--data.source.max_invalid_fraction=0.9",
    ],
}
QUICK = ["README.md", "docs/extending/objective.md", "docs/extending/process.md", "docs/extending/rule.md"]
"""Pages that take a few seconds; the others are run by the slow tests."""
ELSEWHERE = {  # pages that tests of their own run
    "docs/extending/own_generators.md": "tests/cli/test_own_generators.py",
    "docs/guides/distributed_rewards.md": "tests/cli/test_executors.py",
    "docs/guides/rewards_elsewhere.md": "tests/cli/test_rewards_elsewhere.py",
    "docs/guides/rating.md": "tests/cli/test_rate.py",
}
DOMAINS = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob("domains/**/README.md"))]
MARKS = ("file: ", "not run: ", "settings of: ", "build: ", "run", "test")
PAGES = pages()
PICTURES = pytest.mark.needs("diffusers>=0.42", "transformers", "accelerate")


def marked_pages(names: Iterable[str], *marks: pytest.MarkDecorator) -> list[Any]:
    """Return pages as parameters; those with configurations of pictures need their packages."""
    text = {name: (ROOT / name).read_text(encoding="utf-8") for name in names}
    return [
        pytest.param(name, marks=[*marks, *([PICTURES] if re.search(r"--config (\S*/)?\w*image", text[name]) else [])])
        for name in text
    ]


@pytest.fixture
def importable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, from which pages import their files."""
    monkeypatch.syspath_prepend(folder)
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Return the folder of a small run of a configuration, which is made once."""
    place, runs = tmp_path_factory.mktemp("made"), dict[str, Path]()

    def make(name: str) -> Path:
        if name not in runs:
            runs[name] = place / name
            done("fit", "--config", f"domains/{name}.yaml", *ONE, "--run_dir", runs[name])
        return runs[name]

    yield make


def write_files(page: str, folder: Path) -> None:
    """Write the files that a page shows."""
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
    importlib.invalidate_caches()


def run_page(page: str, folder: Path, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the blocks of a page, one after the other, in a folder of their own."""
    write_files(page, folder)
    load = graft.load
    monkeypatch.setattr(graft, "load", lambda config, *flags: load(config, *flags, *SMALL))
    names: dict[str, Any] = {"__name__": "page"}
    for block in blocks(page):
        if block.language == "python" and not block.file:
            exec(compile(block.text, page, "exec"), names)
        if block.language == "bash" and not block.mark.startswith("not run: ") and block.mark != "test":
            for words in block.commands():
                for name in ("molecule", "image", "layout"):  # a run that the reader has from another page
                    if f"runs/{name}/1" in " ".join(words) and not Path(f"runs/{name}/1").exists():
                        shutil.copytree(made(name), f"runs/{name}/1")
                done(*words, *APPENDED[words[0]])


@pytest.mark.parametrize("page", QUICK)
def test_quick_page(page: str, importable: Path, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, importable, made, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("page", marked_pages(page for page in PAGES if page not in QUICK and page not in ELSEWHERE))
def test_page(page: str, importable: Path, made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page(page, importable, made, monkeypatch)


class Parsed(Exception):
    """Raised in place of building what a command has parsed."""


def stop(*_: Any, **__: Any) -> None:
    raise Parsed


@pytest.mark.parametrize(
    "page",
    [*marked_pages(page for page in PAGES if page not in QUICK), *marked_pages(DOMAINS, pytest.mark.slow)],
)
def test_commands_are_parsed(page: str, importable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every configuration and every setting exists; nothing is built."""
    write_files(page, importable)
    monkeypatch.setattr("lightning.pytorch.cli.LightningCLI.instantiate_classes", stop)
    for name in ("sample", "hits", "evaluate"):
        monkeypatch.setattr(f"graft.cli.commands.{name}.load_run", stop)
    monkeypatch.setattr("graft.runs.find_weights", stop)  # of graft rate
    for block in blocks(page):
        for words in block.commands() if block.language == "bash" else []:
            if "--ckpt_path" in words and "last" in words:
                words = words[: words.index("--ckpt_path")]  # there is no run to resume
            try:
                status = cli.main(words)
            except Parsed:
                continue
            if words[0] != "new":  # it builds nothing
                pytest.fail(f"{page}: graft {shlex.join(words)} ends with {status}")


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_tested(page: str) -> None:
    """A block without a mark runs, is a file, or is the output of a program."""
    for block in blocks(page) if page not in ELSEWHERE else []:
        assert block.mark == "" or block.mark.startswith(MARKS), block.mark
        assert block.language in {"bash", "python", "yaml", "json", "text"}, f"{page}: a block has no language"
        if block.language in {"yaml", "json"}:
            assert block.mark, f"{page}: {block.text}"
        if block.mark.startswith("settings of: "):
            check_settings(block)
        if block.mark.startswith("build: "):
            build(block)


@pytest.mark.parametrize("page", PAGES)
def test_files_have_names(page: str) -> None:
    """A comment is not shown: the paragraph before a file, or its first line, names it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for before, name, first in re.findall(r"([^\n]*\n[^\n]*\n)\n<!-- file: (\S+) -->\n```\w+\n([^\n]*)", text):
        assert f"`{name}`" in before or name in first, name


@pytest.mark.parametrize("name", ["slurm.sh", "torchrun.sh"])
def test_scripts(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell runs them, with settings of the user; every configuration and setting exists."""
    launcher = {"slurm.sh": "srun", "torchrun.sh": "torchrun"}[name]
    (folder / launcher).write_text('#!/bin/sh\nprintf "%s\\n" "$@" > words\n')
    (folder / launcher).chmod(0o755)
    path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "NODES": "2", "DEVICES": "4"}
    command = ["bash", str(ROOT / "docs/examples" / name), "--data.draws", "48"]
    assert subprocess.run(command, env=os.environ | path, capture_output=True).returncode == 0
    words = Path("words").read_text().splitlines()
    settings = words[words.index("graft") + 1 :]
    assert settings[-2:] == ["--data.draws", "48"]
    if launcher == "torchrun":  # Lightning refuses another number than that of the launcher
        assert words[words.index("--nproc_per_node") + 1] == "4"
        assert settings[settings.index("--trainer.devices") + 1] == "4"
    monkeypatch.setattr("lightning.pytorch.cli.LightningCLI.instantiate_classes", stop)
    with pytest.raises(Parsed):
        cli.main(settings)


@pytest.mark.slow
def test_torchrun_script(folder: Path) -> None:
    """Two processes of one node make one run."""
    pytest.importorskip("torch.distributed.run")
    run = f'#!/bin/sh\nexec {sys.executable} -m torch.distributed.run "$@"\n'
    (folder / "torchrun").write_text(run)
    (folder / "torchrun").chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "DEVICES": "2", "PORT": port, "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "docs/examples/torchrun.sh"), "--trainer.accelerator", "cpu", *ONE]
    made = subprocess.run(command, env=os.environ | path, capture_output=True, text=True, timeout=500)
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("graft: run in") == 1
    assert json.loads(Path("runs/mine/summary.json").read_text())["reward_calls"] == 64


def check_settings(block: Block) -> None:
    """Every setting of the block is one of the configuration; its value may be another."""
    config = yaml.safe_load((ROOT / block.mark.removeprefix("settings of: ")).read_text(encoding="utf-8"))

    def compare(shown: Any, real: Any, place: str) -> None:
        for name, value in shown.items() if isinstance(shown, dict) and isinstance(real, dict) else ():
            if name == "init_args" and shown.get("class_path") != real.get("class_path"):
                continue
            assert name in real, f"{place}.{name}"
            compare(value, real[name], f"{place}.{name}")

    compare(yaml.safe_load(block.text), config, "")


def build(block: Block) -> None:
    """The block is the setting of an object of a class."""
    where, _, name = block.mark.removeprefix("build: ").rpartition(".")
    (setting,) = content = yaml.safe_load(block.text)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{setting}", type=getattr(importlib.import_module(where), name))
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # the older name
    assert instantiate(parser.parse_object(content))[setting] is not None


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    reward = next(block for block in blocks("README.md") if block.file == "rewards.py")
    assert len(reward.text.splitlines()) <= 6


def test_the_two_commands() -> None:
    """`.ci/run` finds them by their marks."""
    assert marked("README.md", "run").strip() == "pip install -e . && graft fit --config domains/molecule.yaml"
    assert 'pip install -e ".[dev]" && pytest' in marked("README.md", "test")
    assert "README.md" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_lengths_that_pages_promise() -> None:
    """A domain takes fewer than 100 lines."""
    assert len(marked("docs/extending/domain.md", "file: points.py").splitlines()) < 100


def test_the_schema_describes_a_summary(mixture_run: Path) -> None:
    changes: list[dict[str, Any]] = [{"rounds": [{"draw": 3}]}, {"reward": 3}, {"another": 1}]
    check_schema("summary", mixture_run, changes)


def test_the_schema_of_a_pretrained_reference(mixture: Path) -> None:
    check_schema("pretrain_summary", mixture / "run", [{"steps": 0.5}, {"reference": {}}, {"another": 1}])
