"""Folders of runs: nothing of others is overwritten, nothing is written or deleted through links, nothing is left."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from called import QUIET, TOY, done, run

from graft.errors import GraftError
from graft.runs import contents
from graft.runs.folders import resolve_run
from graft.runs.python_runs import checkpoint_to_resume

SMALL = ["--data.draws", "32", "--data.batch_size", "16", "--data.train_batch_size", "8", "--data.steps_per_round", "2"]
SMALL += [
    "--data.evaluation.validation_draws",
    "8",
    "--data.evaluation.test_draws",
    "8",
    "--model.steps",
    "4",
    "--trainer.max_epochs",
    "2",
]
FIT = ["--config", "domains/mixture/mixture.yaml", "--model.weights", "given/reference.safetensors", *SMALL, *QUIET]
PRETRAIN = ["--config", "domains/mixture/pretrain.yaml", "--trainer.max_epochs", "1", *QUIET]
CORRECT = ["--config", "correct.yaml", "--trainer.max_epochs", "1", *QUIET]
COMPARE = [*FIT, "--methods", "graft", "--seeds", "0"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the domain, a reference and a finished run."""
    folder = tmp_path_factory.mktemp("toy")
    shutil.copytree(TOY / "domains", folder / "domains")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done("pretrain", *PRETRAIN, "--run_dir", "given")
        done("fit", *FIT, "--run_dir", "run")
    return folder


@pytest.fixture
def work(toy: Path, folder: Path) -> Path:
    shutil.copytree(toy, folder, dirs_exist_ok=True)
    return folder


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *[("fit", name) for name in ("tuned.safetensors", "rounds/0/notes.txt", ".hidden", "rounds/0/round.json")],
        *[(command, "report.html") for command in ("pretrain", "levels", "predict", "compare")],
    ],
)
def test_foreign_files(command: str, name: str, work: Path) -> None:
    """Files of others stay, also those with names that graft uses."""
    theirs = work / "theirs" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("not graft's")
    args = {"pretrain": PRETRAIN, "compare": COMPARE}.get(command, FIT)
    for how in ([], ["--ckpt_path", "auto"])[: 2 if command == "fit" else 1]:
        message = run(command, *args, "--run_dir", "theirs", *how).message
        assert "--run_dir is theirs" in message and name.partition("/")[0] in message and "must be empty" in message
    assert everything(work / "theirs") == {name: b"not graft's"}


def test_an_empty_folder_will_do(work: Path) -> None:
    (work / "mine").mkdir()
    (work / "mine" / ".tuned.safetensors.999999999.part").write_text("")  # left by a session that was killed at once
    done("pretrain", *PRETRAIN, "--run_dir", "mine")
    assert not list((work / "mine").rglob("*.part"))


@pytest.mark.parametrize("place", ["rounds", "rounds/0", "rounds/1", "checkpoints", "samples", "metrics.csv"])
def test_links_out_of_a_run(place: str, work: Path) -> None:
    """The targets of links stay as they are."""
    run_dir, elsewhere = work / "run", work / "elsewhere"
    (run_dir / "summary.json").unlink()
    (run_dir / place).rename(elsewhere)
    (run_dir / place).symlink_to(elsewhere)
    before = everything(elsewhere) or elsewhere.read_bytes()
    message = run(
        "fit", *FIT, "--run_dir", "run", "--ckpt_path", "last", "--data.storage.keep_last_rounds", "10"
    ).message
    assert f"run/{place} is a link to {elsewhere}" in message
    assert (everything(elsewhere) or elsewhere.read_bytes()) == before


def test_a_link_to_nowhere(work: Path) -> None:
    (work / "run" / "summary.json").unlink()
    shutil.rmtree(work / "run" / "rounds")
    (work / "run" / "rounds").symlink_to(work / "nowhere")
    assert "is a link to" in run("fit", *FIT, "--run_dir", "run", "--ckpt_path", "last").message
    assert not (work / "nowhere").exists()


def test_the_folder_itself_may_be_a_link(work: Path) -> None:
    (work / "disk").mkdir()
    (work / "mine").symlink_to(work / "disk")
    done("pretrain", *PRETRAIN, "--run_dir", "mine")
    assert (work / "disk" / "reference.safetensors").exists()


def test_a_linked_file_is_replaced_not_followed(work: Path) -> None:
    (work / "run" / "summary.json").unlink()
    (work / "run" / "tuned.safetensors").rename(work / "kept.safetensors")
    (work / "run" / "tuned.safetensors").symlink_to(work / "kept.safetensors")
    before = (work / "kept.safetensors").read_bytes()
    done("fit", *FIT, "--run_dir", "run", "--ckpt_path", "last")
    assert not (work / "run" / "tuned.safetensors").is_symlink()
    assert (work / "kept.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("command", "flags", "words"),
    [
        ("fit", ["--data.reward", "nowhere.f"], "nowhere"),
        ("fit", ["--data.source.path", "scores.csv", "--data.source.score_column", "x"], "Mixture"),
        ("fit", ["--data.storage.reuse_runs", "[given]"], "no draws of a run"),
    ],
)
def test_a_refused_run_is_no_unfinished_one(command: str, flags: list[str], words: str, work: Path) -> None:
    """The same command without the fault starts the run, also if a scheduler gives ``--ckpt_path auto``."""
    (work / "scores.csv").write_text("x\n1\n")
    for how in (["--run_dir", "mine"], []):
        before = set(work.rglob("config.yaml"))
        assert words in run(command, *FIT, *flags, *how).message
        assert set(work.rglob("config.yaml")) == before
    done(command, *FIT, "--run_dir", "mine", "--ckpt_path", "auto")


def test_a_run_that_drew_is_an_unfinished_one(work: Path) -> None:
    """The run failed after its first draws, which are kept."""
    (work / "tried_nan.py").write_text("def reward(item):\n    return float('nan')\n")
    failing = ["--data.reward", "graft.reward.FunctionReward", "--data.reward.path", "tried_nan.reward"]
    failing += ["--data.reward.timeout", "null"]
    assert "--ckpt_path last" in run("fit", *FIT, *failing, "--run_dir", "mine").message
    assert (work / "mine/config.yaml").exists() and list((work / "mine/rounds/0").glob("chunk_*"))
    assert "unfinished" in run("fit", *FIT, *failing, "--run_dir", "mine").message


def test_what_a_killed_session_left(work: Path) -> None:
    """Files that graft left are removed; files of a living process, files of others and links stay."""
    mine = work / "run"
    (mine / "summary.json").unlink()
    gone = [".tuned.safetensors.999999999.part", "rounds/0/.chunk_00000.safetensors.999999998.part"]
    gone += ["checkpoints/.last.ckpt.999999999.part", "samples/.tuned.csv.999999999.part/tuned.csv"]
    gone += [f".report.html.{os.getpid()}.part"]  # of an earlier process that had this one's number
    kept = ["rounds/0/notes.part", "rounds/0/.notes.part", ".a.b.part", f".tuned.safetensors.{os.getppid()}.part"]
    kept += ["mine/.tuned.safetensors.999999999.part"]
    for name in [*gone, *kept]:
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        (mine / name).write_text("half")
    outside = work / "outside.txt"
    outside.write_text("whole")
    (mine / "rounds" / ".linked.999999999.part").symlink_to(outside)
    done("fit", *FIT, "--run_dir", "run", "--ckpt_path", "last")
    assert not [name for name in gone if (mine / name).exists()]
    assert [name for name in kept if (mine / name).read_text() == "half"] == kept
    assert outside.read_text() == "whole"


def test_pids_that_cannot_be(tmp_path: Path) -> None:
    for name in (".a.0.part", f".a.{10**30}.part"):
        (tmp_path / name).write_text("")
    contents.remove_temporary(tmp_path)
    assert not (tmp_path / f".a.{10**30}.part").exists()


@pytest.fixture
def umask() -> Iterator[int]:
    before = os.umask(0o077)
    yield 0o077
    os.umask(before)


@pytest.mark.skipif(os.name == "nt", reason="no modes")
@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664), (0o027, 0o640)])
def test_the_umask_is_respected(mask: int, mode: int, work: Path, umask: int) -> None:
    """All files of a run and of the commands after it respect the umask."""
    os.umask(mask)
    done("fit", *FIT, "--run_dir", "mine")
    done("sample", "--weights", "mine", "-n", "4", "--out", "out/samples.csv")
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [*work.glob("mine/**/*"), *work.glob("out/*")]}
    files = {str(path.relative_to(work)): found for path, found in modes.items() if path.is_file()}
    assert {
        "mine/tuned.safetensors",
        "mine/checkpoints/last.ckpt",
        "mine/report.html",
        "out/samples.csv",
    } <= files.keys()
    assert len(files) > 15 and {name: oct(found) for name, found in files.items() if found != mode} == {}
    folders = {oct(found) for path, found in modes.items() if path.is_dir()}
    assert folders == {oct(0o777 & ~mask)}


def test_checkpoints_by_their_paths(tmp_path: Path) -> None:
    """A sharded checkpoint is a folder; the command line and runs from Python find both kinds, and no other folder."""
    run_dir = tmp_path / "run"
    whole, sharded, other = (run_dir / "checkpoints" / name for name in ("whole.ckpt", "sharded.ckpt", "other"))
    sharded.mkdir(parents=True)
    other.mkdir()
    (run_dir / "config.yaml").write_text("a: 1\n")
    whole.touch()
    (sharded / "__0_0.distcp").touch()
    for checkpoint in (whole, sharded):
        assert resolve_run(None, "run", "a: 1\n", str(checkpoint)) == (run_dir, checkpoint)
        assert checkpoint_to_resume(run_dir, checkpoint, overwrite=False) == checkpoint
    for find in (
        lambda: resolve_run(None, "run", "a: 1\n", str(other)),
        lambda: checkpoint_to_resume(run_dir, other, False),
    ):
        with pytest.raises(GraftError, match="there is no file"):
            find()
