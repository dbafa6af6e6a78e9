"""Full disks, missing rounds and changed files: one sentence, no damage, and the run resumes."""

import json
import resource
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from called import QUIET, TOY, done, run
from safetensors.torch import load_file

from graft import GraftError
from graft.io.atomic import write_with
from graft.io.mapped import mapped_writer
from graft.io.tensors import read_tensors, write_tensors
from graft.runs.checkpoint import ChecksummedCheckpointIO, read_checkpoint
from graft.runs.logger import ResumableCSVLogger

LAST = ["--ckpt_path", "last"]
RUN = Path("runs/mixture/1")
PRETRAIN = TOY / "domains" / "mixture" / "pretrain.yaml"


@contextmanager
def room(size: int) -> Iterator[None]:
    """Within the block no file becomes larger: the system's own refusal, as that of a full disk is."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def interrupted(mixture_run: Path, folder: Path) -> Path:
    """A run that ended just before its last file."""
    shutil.copytree(mixture_run, RUN)
    (RUN / "summary.json").unlink()
    return RUN


@pytest.mark.parametrize(
    "which",
    [
        "rounds/0/chunk_00000.safetensors",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("rounds/0/tuned.safetensors", "checkpoints/last.ckpt")
        ),
    ],
)
def test_full_disk(which: str, mixture_fit: list[str]) -> None:
    """Any file may meet a full disk; the network and the chunks are larger than the files before them."""
    wide = ["--model.backbone.init_args.width", "256"]
    done("pretrain", "--config", PRETRAIN, *wide, "--trainer.max_epochs", "1", *QUIET, "--run_dir", "wide")
    args = [*mixture_fit, *wide, "--model.weights", "wide/reference.safetensors"]
    args += ["--data.draws", "4096", "--data.batch_size", "2048"] if "chunk" in which else []
    done("fit", *args, "--run_dir", "whole")
    with room(int(0.9 * Path("whole", which).stat().st_size)):
        message = run("fit", *args).message
    assert "cannot write" in message and f"{RUN / which} (" in message and "free the disk" in message
    assert not (RUN / which).exists() and not list(RUN.rglob("*.part"))
    done("fit", *args, *LAST)
    found, right = (load_file(folder / "tuned.safetensors") for folder in (RUN, Path("whole")))
    assert found.keys() == right.keys() and all(torch.equal(found[name], right[name]) for name in right)


def test_full_disk_leaves_the_last_checkpoint(tmp_path: Path) -> None:
    note = {"graft": {}, "state_dict": {}, "global_step": 3, "loops": {}, "pytorch-lightning_version": "2"}
    path = tmp_path / "last.ckpt"
    ChecksummedCheckpointIO().save_checkpoint(note, path)
    with room(50_000), pytest.raises(GraftError, match="free the disk"):
        ChecksummedCheckpointIO().save_checkpoint({**note, "state_dict": {"a": torch.ones(100_000)}}, path)
    assert read_checkpoint(path)["global_step"] == 3 and [each.name for each in tmp_path.iterdir()] == ["last.ckpt"]


def test_full_disk_for_what_is_filled_in_place(tmp_path: Path) -> None:
    """The fault is found before the file is mapped: a mapped file that outgrows its disk would end the process."""
    with room(50_000), pytest.raises(GraftError, match="free the disk"):
        with mapped_writer(tmp_path / "f.safetensors", 10_000) as mapped:
            mapped({"a": torch.ones(1, 8)})
    assert not list(tmp_path.iterdir())


def test_full_disk_for_curves_and_samples(tmp_path: Path) -> None:
    log = ResumableCSVLogger(tmp_path / "metrics.csv")
    log.log_metrics({"a": 1.0}, 1)
    log.save()
    log.log_metrics({"a": 2.0}, 2)
    with room(12), pytest.raises(GraftError, match=r"metrics\.csv.*free the disk"):
        log.save()
    assert (
        ResumableCSVLogger(tmp_path / "metrics.csv", step=5).rows[0]["a"] == "1.0"
    )  # whatever became of the last line
    with room(10), pytest.raises(GraftError, match=r"cannot write .*mols\.txt"):
        write_with(tmp_path / "mols.txt", lambda path: path.write_text("C" * 100))
    assert [each.name for each in tmp_path.iterdir()] == ["metrics.csv"]


def test_round_that_is_gone(interrupted: Path, mixture_fit: list[str]) -> None:
    """An observation that must not be lost: later ones depend on it."""
    shutil.rmtree(interrupted / "rounds/0")
    message = run("fit", *mixture_fit, *LAST).message
    assert "rounds/0/round.json is missing" in message and "restore the file" in message
    shutil.rmtree(interrupted / "checkpoints")  # from the start: then it is drawn again
    done("fit", *mixture_fit, *LAST)


@pytest.mark.parametrize(
    ("which", "remedy"),
    [
        ("rounds/1/chunk_00000.safetensors", "sampled again"),
        ("rounds/1/scores_00001.json", "scored again"),
        ("rounds/0/round.json", "restore the file"),
        ("checkpoints/last.ckpt", "--ckpt_path"),
    ],
)
def test_one_byte(which: str, remedy: str, interrupted: Path, mixture_fit: list[str]) -> None:
    """A byte in the middle of a file, where no other check would notice it."""
    if "rounds/1" in which:
        shutil.rmtree(interrupted / "checkpoints")
    path = interrupted / which
    content = bytearray(path.read_bytes())
    place = content.index(b"0.", 100) + 2 if path.suffix == ".json" else len(content) // 2
    if path.suffix == ".ckpt":  # between the members of the archive is padding, which nothing reads
        with zipfile.ZipFile(path) as archive:
            largest = archive.read(max(archive.infolist(), key=lambda each: each.file_size))
        place = content.index(largest) + len(largest) // 2
    content[place] ^= 1
    path.write_bytes(content)
    message = run("fit", *mixture_fit, *LAST).message
    assert path.name in message and "was changed since it was written" in message and remedy in message


@pytest.mark.parametrize("flag", ["--weights", "--model.weights"])
def test_one_byte_of_weights(
    flag: str, mixture_run: Path, mixture_reference: Path, mixture_fit: list[str], folder: Path
) -> None:
    source = mixture_run / "tuned.safetensors" if flag == "--weights" else mixture_reference
    content = bytearray(source.read_bytes())
    content[-5] ^= 1
    Path("mine.safetensors").write_bytes(content)
    assert (
        "mine.safetensors was changed since it was written"
        in run("fit", *mixture_fit, flag, "mine.safetensors").message
    )
    assert [path.name for path in folder.iterdir()] == ["mine.safetensors"]


def test_another_version(interrupted: Path, mixture_run: Path, mixture_fit: list[str]) -> None:
    path = interrupted / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    content["graft"]["format"] = 99
    torch.save(content, path)
    assert "another version of graft: its format is 99" in run("fit", *mixture_fit, *LAST).message
    shutil.rmtree(interrupted / "checkpoints")
    scores = interrupted / "rounds/0/scores_00000.json"
    scores.write_text(json.dumps({**json.loads(scores.read_text()), "format": 99}))
    assert "another version of graft" in run("fit", *mixture_fit, *LAST).message
    tensors, about = read_tensors(mixture_run / "tuned.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graft.io.format.FORMAT", 99)
        write_tensors("later.safetensors", tensors, about)
    assert "another version of graft" in run("fit", *mixture_fit, "--weights", "later.safetensors").message


@pytest.mark.needs("peft")
def test_checkpoint_of_another_run(interrupted: Path, mixture_fit: list[str], folder: Path) -> None:
    """A checkpoint of the same reference with other parameters."""
    lora = [
        *mixture_fit,
        "--model.lora.rank",
        "2",
        "--trainer.max_epochs",
        "1",
        "--data.evaluation.validation_draws",
        "0",
    ]
    done("fit", *lora, "--run_dir", "other")
    shutil.copy("other/checkpoints/last.ckpt", interrupted / "checkpoints/last.ckpt")
    assert "does not fit the network" in run("fit", *mixture_fit, *LAST).message


def test_a_configuration_is_data(interrupted: Path, mixture_fit: list[str], folder: Path) -> None:
    """Configurations of a checkpoint or a run are compared with that of the command, and never built."""
    (folder / "taken.py").write_text("import os\nos.mkdir('taken over')\nclass Net: pass\n")
    path = interrupted / "checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    content |= {"hyper_parameters": {"class_path": "taken.Net"}, "hparams_name": "kwargs"}
    ChecksummedCheckpointIO().save_checkpoint(content, path)
    config = interrupted / "config.yaml"
    given = config.read_text()
    config.write_text(given.replace("domains.mixture.Network", "taken.Net"))
    assert "taken.Net" in run("fit", *mixture_fit, *LAST).message
    config.write_text("a: !!python/object/apply:os.mkdir ['taken over']")
    assert "config.yaml is damaged" in run("fit", *mixture_fit, *LAST).message
    config.write_text(given)
    done("fit", *mixture_fit, *LAST)
    assert not (folder / "taken over").exists()


@pytest.mark.parametrize("name", ["os.system", "antigravity.Net", "builtins.exec"])
def test_weights_name_no_part_of_python(name: str, mixture_run: Path, folder: Path) -> None:
    """A file of weights may name classes of graft and the domains, and none of Python's own library."""
    tensors, about = read_tensors(mixture_run / "tuned.safetensors")
    about["architecture"]["init_args"]["backbone"]["class_path"] = name
    write_tensors("theirs.safetensors", tensors, about)
    message = run("sample", "--weights", "theirs.safetensors", "-n", "2", "--out", "a.csv").message
    assert f"names {name}" in message
