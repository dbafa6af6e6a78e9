"""Precision, compilation, parts of a step, a memory that is too small: settings that leave the rest as it is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from called import QUIET, TOY, done, run
from safetensors.torch import load_file

from domains.molecules.backbone import EGNN
from graft.network import AutoBatchSize

ONE = [
    "--trainer.max_epochs",
    "1",
    "--data.evaluation.validation_draws",
    "0",
    "--data.evaluation.test_draws",
    "8",
    "--data.draws",
    "32",
]


def weights(folder: str) -> dict[str, torch.Tensor]:
    return load_file(Path(folder, "tuned.safetensors"))


def summary(folder: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text())
    return content


def test_a_step_in_parts_is_the_step(small: list[str]) -> None:
    """With clipping and the average, in float64, up to rounding."""
    double = [
        *ONE,
        "--trainer.precision",
        "64-true",
        "--data.steps_per_round",
        "10",
        "--trainer.gradient_clip_val",
        "0.5",
    ]
    done("fit", *small, *double, "--run_dir", "whole")
    done("fit", *small, *double, "--trainer.accumulate_grad_batches", "2", "--run_dir", "halves")
    whole, halves = weights("whole"), weights("halves")
    assert whole.keys() == halves.keys()
    assert all((whole[name] - halves[name]).abs().max() < 1e-9 for name in whole)
    assert (Path("whole/rounds/0/round.json").read_bytes()) == Path("halves/rounds/0/round.json").read_bytes()


def test_half_precision(small: list[str]) -> None:
    """States and weights keep theirs; other draws than those of full precision, and the run prints it."""
    done("fit", *small, *ONE, "--trainer.precision", "bf16-mixed")
    folder = "runs/molecule/1"
    chunk = load_file(f"{folder}/rounds/0/chunk_00000.safetensors")
    assert all(tensor.dtype != torch.bfloat16 for tensor in (*chunk.values(), *weights(folder).values()))
    assert summary(folder)["tuned"]["n"] == 8
    message = run("fit", *small, *ONE, "--data.storage.reuse_runs", "[runs/molecule/1]").message
    assert "another precision" in message


def test_compiled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in files and draws are those of the network that is not compiled; `graft sample` waits for no compiler."""
    shutil.copytree(TOY / "domains", folder / "domains")
    done("pretrain", "--config", "domains/mixture/pretrain.yaml", "--trainer.max_epochs", "1", *QUIET)
    args = [
        "fit",
        "--config",
        "domains/mixture/mixture.yaml",
        *ONE,
        *QUIET,
        "--model.tuning.ema_decay",
        "0.9",
        "--model.steps",
        "4",
    ]
    args += ["--model.weights", "runs/pretrain/1/reference.safetensors"]
    done(*args, "--run_dir", "eager")
    done(*args, "--model.tuning.compile", "eager", "--run_dir", "compiled")  # traced, and then run as it is
    eager, compiled = weights("eager"), weights("compiled")
    assert eager.keys() == compiled.keys()
    assert all(torch.allclose(eager[name], compiled[name], atol=1e-5) for name in eager)
    backends: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "compile", lambda *_, **settings: backends.append(settings["backend"]))
        done("sample", "--weights", "compiled", "-n", "2", "--out", "points.csv")
        assert not backends
        done("sample", "--weights", "compiled", "-n", "2", "--out", "points.csv", "--model.tuning.compile", "eager")
        assert backends[0] == "eager"
    assert "fortran" in run(*args, "--model.tuning.compile", "fortran").message


def limited(forward: Callable[..., Any], most: int) -> Callable[..., Any]:
    def called(self: Any, state: Any, time: torch.Tensor, condition: Any) -> Any:
        if len(time) > most:
            raise torch.OutOfMemoryError(f"{len(time)} rows")
        return forward(self, state, time, condition)

    return called


def test_batch_that_does_not_fit(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Halved until it does, with a sentence; the draws are the same up to rounding."""
    settings = [*small, *ONE, "--trainer.precision", "64-true", "--data.train_batch_size", "8"]
    done("fit", *settings, "--run_dir", "whole")
    monkeypatch.setattr(EGNN, "forward", limited(EGNN.forward, 12))
    out = done("fit", *settings, "--run_dir", "parts").out
    assert [line.split(";")[0] for line in out.splitlines() if "out of memory" in line] == [
        "graft: out of memory with 32 draws at a time: the network now gets 16",
        "graft: out of memory with 16 draws at a time: the network now gets 8",
    ]
    whole, parts = (load_file(f"{run}/rounds/0/chunk_00000.safetensors") for run in ("whole", "parts"))
    assert all(torch.allclose(whole[name], parts[name], atol=1e-9) for name in whole)
    assert summary("whole")["denoiser_calls"] == summary("parts")["denoiser_calls"]
    monkeypatch.setattr(EGNN, "forward", limited(EGNN.forward, 4))
    message = run("fit", *settings, "--data.train_batch_size", "8").message
    assert "data.train_batch_size" in message and "accumulate_grad_batches" in message


def test_network_that_never_fits() -> None:
    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    batch = torch.zeros(4, 2), torch.zeros(4), {"n": torch.zeros(4)}
    with pytest.raises(Exception, match="one draw at a time"):
        AutoBatchSize()(full)(*batch)
    with pytest.raises(Exception, match=r"share the network: lower data\.batch_size"):
        AutoBatchSize(fixed=True)(full)(*batch)
