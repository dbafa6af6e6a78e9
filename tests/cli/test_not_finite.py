"""A value that is not finite ends the run at that step with one sentence, and is neither written nor read."""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import broken
import pytest
import torch
from broken import PLANE
from called import run
from safetensors.torch import load_file, save_file
from trained import rollouts_of, training

import graft
from graft.cli import IGNORED_WARNINGS
from graft.commands import sample_chunks
from graft.core.finite import NotFiniteError
from graft.errors import GraftError
from graft.io.checksum import checksum
from graft.io.tensors import read_tensors, write_tensors
from graft.process import CosineSchedule, Gaussian
from graft.runs.checkpoint import read_checkpoint

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in IGNORED_WARNINGS]

FIT = ["fit", "--config", "plane.yaml", "--data.reward", "broken.Right", "--data.draws", "48"]
FIT += ["--data.batch_size", "24", "--data.train_batch_size", "8", "--data.steps_per_round", "4"]
FIT += ["--data.evaluation.validation_draws", "24", "--data.evaluation.test_draws", "24", "--trainer.max_epochs", "3"]
FIT += ["--data.accept", "TopFraction", "--data.accept.fraction", "0.5", "--run_dir", "run"]
PRETRAIN = ["pretrain", "--config", "plane.yaml", "--data", "broken.Points", "--trainer.max_epochs", "3"]
PRETRAIN += ["--run_dir", "run"]
QUICK: dict[str, Any] = {
    "draws": 48, "batch_size": 24, "train_batch_size": 8, "steps_per_round": 4, "validation_draws": 0, "test_draws": 24
}  # fmt: skip


@pytest.fixture(autouse=True)
def plane(folder: Path) -> None:
    """The configuration, in the folder of the test."""
    (folder / "plane.yaml").write_text(PLANE)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a reference."""
    folder = tmp_path_factory.mktemp("plane")
    model = plane_of(broken.Network())
    graft.pretrain(model, broken.Points(), folder, trained(1), draws=8)
    return folder / "reference.safetensors"


def plane_of(network: torch.nn.Module, kind: Any = broken.Plane, **settings: Any) -> Any:
    return kind(network, Gaussian(CosineSchedule(), "v", [2]), steps=8, **{**training(3e-3), **settings})


def trained(rounds: int, **settings: Any) -> Any:
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
    return graft.trainer(rounds, **quiet, **settings)


def fitted(
    weights: Path, network: torch.nn.Module, settings: "dict[str, Any]", run_dir: str = "run", **data: Any
) -> None:
    """Fit with settings of the model, and of the trainer, whose names begin with a capital."""
    model = {name: value for name, value in settings.items() if name.islower()}
    own = {name.lower(): value for name, value in settings.items() if not name.islower()}
    rollouts = rollouts_of(broken.Right(), **{**QUICK, **data})
    graft.fit(plane_of(network, weights=str(weights), **model), rollouts, run_dir, trained(own.pop("rounds", 2), **own))


def tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors(each)


def all_finite(folder: Path) -> None:
    """Check that no file of a run has a value that is not finite."""
    for path in folder.rglob("*"):
        if path.suffix == ".safetensors":
            assert all(bool(each.isfinite().all()) for each in load_file(path).values()), path
        elif path.suffix == ".ckpt":
            content = torch.load(path, weights_only=True)
            found = [*tensors(content["state_dict"]), *tensors(content["optimizer_states"])]
            assert all(bool(each.isfinite().all()) for each in found), path
        elif path.name == "metrics.csv":
            with path.open(newline="") as file:
                assert not {"nan", "inf", "-inf"} & {value.lower() for row in csv.reader(file) for value in row}
        elif path.suffix in (".json", ".html"):
            assert "NaN" not in path.read_text() and "Infinity" not in path.read_text(), path


def weightless(folder: Path) -> None:
    """Check that only draws were written."""
    found = [path for path in folder.rglob("*") if path.name in ("tuned.safetensors", "reference.safetensors")]
    assert not found and not [*folder.rglob("*.ckpt"), *folder.rglob("summary.json")]
    all_finite(folder)


# Training


@pytest.mark.parametrize("command", ["fit", "pretrain"])
def test_learning_rate(command: str, weights: Path, folder: Path) -> None:
    """The quick way to it, from the command line."""
    args = [*FIT, "--model.weights", weights] if command == "fit" else PRETRAIN
    message = run(*args, "--model.optimizer.lr", "1e25").message
    assert "the loss of step 2 is " in message
    assert message.endswith(": lower model.optimizer.lr (now 1e+25); no weights were written")
    weightless(folder)


def test_weights_are_named(weights: Path, folder: Path) -> None:
    """Beyond what a float32 holds in the first step."""
    with pytest.raises(
        NotFiniteError, match=r"not finite after step 1 \(first: policy.backbone.layers.0.weight\): lower"
    ):
        fitted(weights, broken.Network(), training(1e39))
    weightless(folder)


@pytest.mark.parametrize("rate", [1e25, 1e39])
def test_the_last_step(rate: float, weights: Path, folder: Path) -> None:
    """No later step would show the fault in its loss: the samples show it, or the check of the file."""
    last = {**training(rate), "Rounds": 1}
    with pytest.raises(NotFiniteError, match=r"samples are not finite .* drawn by the tuned network: start again"):
        fitted(weights, broken.Network(), last, steps_per_round=1, validation_draws=24)
    if rate == 1e39:
        with pytest.raises(NotFiniteError, match=r"tuned.safetensors was not written: the tensor backbone/layers"):
            fitted(weights, broken.Network(), last, "other", steps_per_round=1)
        with pytest.raises(NotFiniteError, match=r"the checkpoint was not written: the tensor policy.backbone.layers"):
            model = plane_of(broken.Network(), **training(rate))
            graft.pretrain(model, broken.Points(), "third", trained(1, limit_train_batches=1), draws=8)
    weightless(folder)


CASES: dict[str, tuple[dict[str, Any], Any, str]] = {
    "loss": ({}, lambda: broken.NotANumber(7), "loss of step 7 is nan: lower model.optimizer.lr (now 0.003)"),
    "infinite loss": ({}, lambda: broken.NotANumber(7, value=1e30), "loss of step 7 is inf: lower"),
    "gradient": ({}, lambda: broken.InfiniteGradient(7), "gradient of step 7 is nan: lower model.optimizer.lr"),
    "no clipping": (
        {"Gradient_clip_val": None},
        lambda: broken.InfiniteGradient(7),
        "gradient of step 7 is nan: lower",
    ),
    "accumulated": ({"Accumulate_grad_batches": 4}, lambda: broken.NotANumber(26), "loss of step 7 is nan"),
    "half precision": ({"Precision": "bf16-mixed"}, lambda: broken.NotANumber(7), "loss of step 7 is nan"),
    "average": (training(3e-3, ema_decay=0.9), lambda: broken.NotANumber(7), "loss of step 7 is nan"),
}


@pytest.mark.parametrize("case", CASES)
def test_step(case: str, weights: Path, folder: Path) -> None:
    """The run ends at that step, in the second round, and the weights of the first one are named."""
    settings, network, sentence = CASES[case]
    with pytest.raises(NotFiniteError) as raised:
        fitted(weights, network(), settings)
    message = str(raised.value)
    assert sentence in message and message.endswith("; the last good weights are in run/rounds/0/tuned.safetensors"), (
        message
    )
    with (folder / "run/metrics.csv").open(newline="") as file:
        losses = [(int(row["step"]), row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert [step for step, _ in losses] == list(range(6)) and all(math.isfinite(float(loss)) for _, loss in losses)
    assert not (folder / "run/tuned.safetensors").exists() and not (folder / "run/summary.json").exists()
    assert read_checkpoint(folder / "run/checkpoints/last.ckpt")["global_step"] == 4
    all_finite(folder)


def test_resume(weights: Path, folder: Path) -> None:
    """From the checkpoint, and from named weights."""
    args = [*FIT, "--model.weights", weights, "--model.backbone", "broken.NotANumber", "--model.backbone.at", "7"]
    good = run(*args, "--data.evaluation.validation_draws", "0").message.rpartition(" in ")[2]
    # calls are counted from 0 again, so that the fault comes at the seventh step from the checkpoint, which has 4
    assert (
        "the loss of step 11 is nan"
        in run(*args, "--data.evaluation.validation_draws", "0", "--ckpt_path", "last").message
    )
    fitted(weights, broken.Network(), {}, "again")
    model = plane_of(broken.Network(), weights=str(weights))
    model.load_weights(good)
    all_finite(folder)


def test_step_of_pretraining(folder: Path) -> None:
    """The first of two epochs of four steps is kept."""
    with pytest.raises(NotFiniteError, match=r"loss of step 7 is nan.* weights are in run/checkpoints/last.ckpt"):
        graft.pretrain(plane_of(broken.NotANumber(7)), broken.Points(), "run", trained(2), draws=8)
    assert not (folder / "run/reference.safetensors").exists()
    all_finite(folder)


# Data


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_data(value: float, folder: Path) -> None:
    """The data are named, not the learning rate, unless they are finite and their squares are not."""
    sentence = "the batch of step . holds values that are not finite: fix the training data"
    with pytest.raises(NotFiniteError, match=sentence if value != 1e30 else "is inf: lower"):
        graft.pretrain(plane_of(broken.Network()), broken.Holes(value), "run", trained(1), draws=8)
    with pytest.raises(NotFiniteError, match=r"the validation loss after step 4 is .*: fix the validation data"):
        graft.pretrain(plane_of(broken.Network()), broken.Holes(value, held_out=True), "held_out", trained(1), draws=8)
    all_finite(folder)


def test_data_of_an_earlier_part(folder: Path) -> None:
    """The fault is in an earlier part of a step that is accumulated from four batches."""
    with pytest.raises(NotFiniteError, match="the batch of step 1 holds values that are not finite: fix the training"):
        trainer = trained(1, accumulate_grad_batches=4)
        graft.pretrain(plane_of(broken.Network()), broken.Holes(math.nan, count=100), "run", trainer, draws=8)
    weightless(folder)


def test_reward_that_is_infinite_for_some(weights: Path, folder: Path) -> None:
    """A batched reward of the user's own: they have failed, and are counted."""
    data = rollouts_of(broken.Infinite(), **QUICK)
    model = plane_of(broken.Network(), weights=str(weights))
    (account,) = graft.fit(model, data, "run", trained(1))["rounds"]
    assert 0 < account["failed_rewards"] < 48 and set(account["failures"]) == {"the reward is inf"}
    all_finite(folder)


# Samples


def test_samples(weights: Path, folder: Path) -> None:
    """Samples that are not finite are neither decoded nor kept, in any command."""
    args = ["--model.weights", weights, "--model.backbone", "broken.Overflows", "--model.backbone.below", "0.6"]
    message = run(*FIT, *args).message
    assert "4 of 4 samples are not finite from level 0.375 on, drawn by the reference: check model.weights" in message
    assert not [*folder.glob("run/rounds/0/chunk*")]
    message = run("levels", *FIT[1:-2], *args, "--run_dir", "levels").message
    assert "are not finite" in message and not (folder / "levels/levels.json").exists()
    model = plane_of(broken.Overflows(0.6), weights=str(weights))
    with pytest.raises(NotFiniteError, match="4 of 4 samples are not finite"):
        sample_chunks(model, trained(1), 4)


# Files


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_are_refused(value: float, weights: Path, folder: Path) -> None:
    """graft's own file and a state dict in two formats; the first tensor is named."""
    found, about = read_tensors(weights)
    found["backbone/layers.2.weight"] = found["backbone/layers.2.weight"].clone()
    found["backbone/layers.2.weight"][1, 3] = value
    write_tensors("bad.safetensors", found, about)
    plain = {key.removeprefix("backbone/"): tensor for key, tensor in found.items() if key.startswith("backbone/")}
    torch.save({"state_dict": plain}, "bad.pt")
    save_file(plain, "plain.safetensors")
    for path in ("bad.safetensors", "bad.pt", "plain.safetensors"):
        with pytest.raises(GraftError, match=f"{path}: the tensor layers.2.weight holds values that are not finite"):
            plane_of(broken.Network(), weights=path)
    model = plane_of(broken.Network(), weights=str(weights))
    with pytest.raises(GraftError, match=r"bad.safetensors: the tensor layers.2.weight holds values"):
        model.load_weights("bad.safetensors")
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def test_weights_that_overflow_in_the_network(weights: Path, folder: Path) -> None:
    """Finite in a file of another precision."""
    found, _ = read_tensors(weights)
    plain = {key.removeprefix("backbone/"): t.double() for key, t in found.items() if key.startswith("backbone/")}
    plain["layers.0.bias"][0] = 1e300
    save_file(plain, "double.safetensors")
    with pytest.raises(GraftError, match=r"double.safetensors: the tensor layers.0.bias holds values"):
        plane_of(broken.Network(), weights="double.safetensors")


@pytest.mark.parametrize("where", ["weight", "moment"])
def test_checkpoint_is_refused(where: str, weights: Path, folder: Path) -> None:
    """A checkpoint of a version without the check is refused although its hash is right."""
    with pytest.raises(NotFiniteError):
        fitted(weights, broken.NotANumber(7), {})
    path = folder / "run/checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    if where == "weight":
        content["state_dict"]["policy.backbone.layers.0.bias"][2] = math.nan
    else:
        content["optimizer_states"][0]["state"][0]["exp_avg_sq"][0, 0] = math.inf
    del content["graft"]["sha256"]
    content["graft"]["sha256"] = checksum(content)
    torch.save(content, path)
    name = "policy.backbone.layers.0.bias" if where == "weight" else "optimizer.0.state.0.exp_avg_sq"
    with pytest.raises(GraftError, match=f"last.ckpt: the tensor {name} holds values that are not finite"):
        read_checkpoint(path)


def test_masks(folder: Path) -> None:
    """A buffer with −infinity is as it should be, and is kept; with NaN it is refused like a weight."""
    graft.pretrain(plane_of(broken.Masked()), broken.Points(), "pre", trained(1), draws=8)
    fitted(folder / "pre/reference.safetensors", broken.Masked(), {"Rounds": 1})
    found, about = read_tensors("pre/reference.safetensors")
    assert found["backbone/mask"].min() == -math.inf
    write_tensors("bad.safetensors", {**found, "backbone/mask": found["backbone/mask"] * 0}, about)
    with pytest.raises(GraftError, match="the tensor mask holds values that are not finite"):
        plane_of(broken.Masked(), weights="bad.safetensors")
