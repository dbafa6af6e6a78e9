"""The alternatives and the controls, from the command line."""

import csv
import json
import signal
from pathlib import Path

import pytest
import torch
from called import done, run
from safetensors.torch import load_file

from graft.io.tensors import read_tensors, write_tensors
from graft.rounds.chunk_files import chunk_from_tensors

ONE = ["--trainer.max_epochs", "1", "--data.evaluation.validation_draws", "0", "--data.evaluation.test_draws", "16"]
ALL = [
    "--data.source",
    "current",
    "--data.replay_rounds",
    "1",
    "--data.accept",
    "AcceptAll",
    "--data.accept.deduplicate",
    "false",
]
OBJECTIVES = {
    "ddpo": ["--model.objective", "PolicyGradient", *ALL],
    "nft": ["--model.objective", "DiffusionNFT", "--model.objective.decay_increment", "0.3", *ALL],
    "shared_prefix": ["--config", "objective/shared_prefix.yaml"],
    "anchored": ["--model.objective", "AnchoredShaping", "--model.upper_level", "0.75", *ALL[:4]],
}
ETA = "--model.process.init_args.eta"


def tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "tuned.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def summary(run: Path) -> dict:
    content = json.loads((run / "summary.json").read_text())
    return {name: value for name, value in content.items() if name != "seconds"}


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("ddpo", []),
        ("ddpo", ["--model.level", "0", "--model.objective.steps_per_sample", "0", "--model.objective.kl_coef", "0.1"]),
        (
            "ddpo",
            [
                "--model.tuning.ema_decay",
                "null",
                "--data.reward.higher_is_better",
                "false",
                "--trainer.accumulate_grad_batches",
                "2",
            ],
        ),
        pytest.param("ddpo", ["--model.lora.rank", "4"], marks=pytest.mark.needs("peft")),
        ("nft", []),
        (
            "nft",
            ["--model.level", "0", "--model.objective.adaptive_weighting", "true", "--model.objective.kl_coef", "0.1"],
        ),
        ("nft", ["--model.level", "0", ETA, "0", "--model.objective.beta", "0.1"]),
        pytest.param("nft", ["--model.lora.rank", "4"], marks=pytest.mark.needs("peft")),
    ],
    ids=lambda value: " ".join(value).replace("--", "") if isinstance(value, list) else value,
)
def test_objective(name: str, flags: list[str], folder: Path, mixture_fit: list[str], mixture_reference: Path) -> None:
    done("fit", *mixture_fit, *ONE, *OBJECTIVES[name], *flags)
    made = folder / "runs/mixture/1"
    run_summary = summary(made)
    assert run_summary["objective"] == {"ddpo": "policy gradient (DDPO)", "nft": "DiffusionNFT"}[name]
    account = run_summary["rounds"][0]
    assert account["accepted"] == account["draws"] == 64 and account["kl_nats"] == 0
    assert run_summary["kl_nats"] is run_summary["gain"]["of_accepted"] is None and not run_summary["selective"]
    page = (made / "report.html").read_text()
    assert "so there is no accepted gain and no KL divergence" in page and "share of the accepted gain" not in page
    with (made / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    wanted = {"ddpo": ["ratio_clipped", "old_kl"], "nft": ["old_distance"]}[name]
    wanted += (
        [{"ddpo": "reference_kl", "nft": "reference_distance"}[name]] if "--model.objective.kl_coef" in flags else []
    )
    assert len(rows) == 4 and all(row[f"train/{what}"] for row in rows for what in wanted)
    assert float(rows[0][f"train/{wanted[-1]}"]) == pytest.approx(0, abs=1e-6)  # the old policy is the network yet
    changed = {n: t for n, t in tensors(made).items() if n.startswith("backbone/")}
    before = load_file(mixture_reference)
    assert any("lora" in n or not torch.equal(t, before[n]) for n, t in changed.items())
    done("sample", "--weights", made, "-n", "5", "--out", "a.csv")


def test_samples_of_a_prefix(folder: Path, mixture_fit: list[str]) -> None:
    """Eight samples share the states above the upper level and at it."""
    more = ["--trainer.max_epochs", "2", "--data.storage.record_levels", "[0.75,0.25]"]
    done("fit", *mixture_fit, *ONE, *OBJECTIVES["shared_prefix"], *more, "--run_dir", "whole")
    rounds = summary(folder / "whole")["rounds"]
    assert [each["denoiser_calls"] for each in rounds] == 2 * [64 * 8 - 56 * 4]  # half of the eight steps are shared
    for number in range(2):
        path = folder / f"whole/rounds/{number}/chunk_00000.safetensors"
        found, about = read_tensors(path)
        recorded = chunk_from_tensors(path, found, about, 32).recorded
        above, upper, below = (recorded[level].reshape(-1, 8, 2) for level in (0.75, 0.5, 0.25))
        assert torch.equal(above, above[:, :1].expand_as(above)) and torch.equal(upper, upper[:, :1].expand_as(upper))
        assert not (below[:, 1:] == below[:, :1]).any() and about["origin"]["samples_per_prefix"] == 8


def test_anchored(folder: Path, mixture_fit: list[str], mixture_reference: Path) -> None:
    """The objective gets all draws, and its report has the accepted ones."""
    done("fit", *mixture_fit, *ONE, *OBJECTIVES["anchored"])
    made = folder / "runs/mixture/1"
    run_summary = summary(made)
    assert (
        run_summary["objective"] == "anchored P-GRAFT"
        and run_summary["upper_level"] == 0.75
        and run_summary["selective"]
    )
    account = run_summary["rounds"][0]
    assert 0 < account["accepted"] < account["draws"] == 64 and run_summary["kl_nats"] > 0
    assert len(next(iter(load_file(made / "rounds/0/all.safetensors").values()))) == 64
    with (made / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    first, last = (float(rows[i]["train/old_distance"]) for i in (0, -1))
    assert first == pytest.approx(0, abs=1e-6) and last > 1e-6
    before = load_file(mixture_reference)
    assert any(not torch.equal(t, before[n]) for n, t in tensors(made).items() if n.startswith("backbone/"))
    assert "share of the accepted gain" in (made / "report.html").read_text()
    done("sample", "--weights", made, "-n", "5", "--out", "a.csv")


@pytest.mark.parametrize("name", ["nft", *(pytest.param(n, marks=pytest.mark.slow) for n in OBJECTIVES if n != "nft")])
def test_interruption(name: str, folder: Path, mixture_fit: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted in the second of three rounds, the run restores the old policy and the running statistics too."""
    import callbacks

    args = [
        "fit",
        *mixture_fit,
        "--trainer.callbacks",
        "callbacks.Killed",
        *OBJECTIVES[name],
        "--trainer.max_epochs",
        "3",
    ]
    done(*args, "--run_dir", "whole")
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Killed, "on_train_batch_end", callbacks.interrupt())
        assert run(*args).status == 130
    signal.signal(signal.SIGINT, handler)
    done(*args, "--ckpt_path", "last")
    resumed, whole = folder / "runs/mixture/1", folder / "whole"
    assert same(tensors(resumed), tensors(whole))
    assert summary(resumed) == summary(whole)
    assert (resumed / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([*OBJECTIVES["ddpo"], ETA, "0"], "PolicyGradient needs steps that draw noise: set eta > 0"),
        ([*OBJECTIVES["nft"], ETA, "0"], "biased at model.level > 0"),
        ([*OBJECTIVES["ddpo"], "--data.source", "reference"], "data.source=current"),
        ([*OBJECTIVES["nft"], "--data.source", "reference"], "data.source=current"),
        ([*OBJECTIVES["ddpo"], "--data.accept", "Preference"], "data.accept=graft.accept.AcceptAll"),
        ([*OBJECTIVES["nft"], "--data.accept.deduplicate", "true"], "data.accept.deduplicate=false"),
        ([*OBJECTIVES["ddpo"], "--data.replay_rounds", "2"], "data.replay_rounds=1"),
        ([*OBJECTIVES["ddpo"], "--model.steps", "1", "--model.level", "0"], "model.steps"),
        ([*OBJECTIVES["ddpo"], "--model.objective.clip_range", "0"], "model.objective.clip_range is 0"),
        ([*OBJECTIVES["ddpo"], "--model.objective.steps_per_sample", "-1"], "model.objective.steps_per_sample is -1"),
        ([*OBJECTIVES["ddpo"], "--model.objective.kl_coef", "-1"], "model.objective.kl_coef is -1"),
        ([*OBJECTIVES["ddpo"], "--model.objective.advantage_clip", "0"], "model.objective.advantage_clip is 0"),
        ([*OBJECTIVES["nft"], "--model.objective.beta", "0"], "model.objective.beta is 0"),
        ([*OBJECTIVES["nft"], "--model.objective.decay", "1"], "model.objective.decay is 1"),
        ([*OBJECTIVES["nft"], "--model.objective.stat_buffer_size", "-1"], "model.objective.stat_buffer_size is -1"),
        ([*OBJECTIVES["anchored"], ETA, "0"], "biased at model.level > 0 and model.upper_level < 1"),
        ([*OBJECTIVES["anchored"], "--data.replay_rounds", "2"], "data.replay_rounds=1"),
        (["--model.upper_level", "0"], "model.upper_level is 0"),
        ([*OBJECTIVES["shared_prefix"], "--data.source", "reference"], "set data.source to current"),
        ([*OBJECTIVES["shared_prefix"], "--model.upper_level", "1"], "Set model.upper_level below 1"),
        ([*OBJECTIVES["shared_prefix"], ETA, "0"], "the sampler is deterministic"),
        ([*OBJECTIVES["shared_prefix"], "--data.samples_per_prefix", "3"], "it must divide data.draws, which is 64"),
        (
            ["--model.upper_level", "0.75", "--model.level", "auto"],
            "data.level_search.candidates, which must lie below model.upper_level",
        ),
        (["--model.level", "0.5", "--model.upper_level", "0.5"], "is not below model.upper_level 0.5"),
        (["--model.objective", "Nonsense"], "Nonsense"),
        (["--model.objective", "Shaping", "--model.objective.target", "nowhere"], "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_refusals(flags: list[str], words: str, folder: Path, mixture_fit: list[str]) -> None:
    assert words in run("fit", *mixture_fit, *ONE, *flags).message
    assert not list(folder.rglob("chunk_*"))


def test_objective_that_differs(folder: Path, mixture_fit: list[str]) -> None:
    """A run resumes with its own objective only."""
    done("fit", *mixture_fit, *ONE, *OBJECTIVES["nft"])
    (folder / "runs/mixture/1/summary.json").unlink()
    message = run(
        "fit", *mixture_fit, *ONE, *OBJECTIVES["nft"], "--model.objective.beta", "0.3", "--ckpt_path", "last"
    ).message
    assert "objective" in message and "beta" in message


def test_rounds_keep_their_weights(mixture_run: Path, folder: Path, mixture_fit: list[str]) -> None:
    """The weights of round n are those of a run that stops there; those of the last round are the run's."""
    assert same(tensors(mixture_run / "rounds/1"), tensors(mixture_run))
    assert not same(tensors(mixture_run / "rounds/0"), tensors(mixture_run))
    for number in (0, 1):
        done("sample", "--weights", mixture_run / f"rounds/{number}", "-n", "5", "--out", f"{number}.csv")
    assert Path("0.csv").read_bytes() != Path("1.csv").read_bytes()
    done("fit", *mixture_fit, "--trainer.max_epochs", "1", "--run_dir", "a")  # of a constant learning rate
    assert same(tensors(folder / "a"), tensors(mixture_run / "rounds/0"))
    done("fit", *mixture_fit, *ONE, "--data.storage.save_round_weights", "false", "--run_dir", "c")
    assert not (folder / "c/rounds/0/tuned.safetensors").exists()


def test_interpolation(mixture_run: Path, mixture_reference: Path, folder: Path) -> None:
    """At 0 the weights are the reference's and at 1 the tuned ones, to the byte; the switch is a level."""
    for name, weights, extra in [
        ("tuned", mixture_run, []),
        ("one", mixture_run, ["--interpolate", "1"]),
        ("half", mixture_run, ["--interpolate", "0.5"]),
        ("zero", mixture_run, ["--interpolate", "0"]),
        ("reference", mixture_reference, ["--steps", "8"]),
    ]:
        done("sample", "--weights", weights, "-n", "9", "--out", f"{name}.csv", *extra)
    drawn = {name: Path(f"{name}.csv").read_bytes() for name in ("tuned", "one", "half", "zero", "reference")}
    assert drawn["one"] == drawn["tuned"] and drawn["zero"] == drawn["reference"] and len(set(drawn.values())) == 3
    assert (
        "reference" in run("sample", "--weights", mixture_reference, "--out", "a.csv", "--interpolate", "0.5").message
    )
    assert "--interpolate" in run("sample", "--weights", mixture_run, "--out", "a.csv", "--interpolate", ".inf").message


def test_inconsistent_reference(folder: Path, mixture_fit: list[str], mixture_reference: Path) -> None:
    """A reference with random weights is warned of, once, with the objective that cancels its error."""
    generator = torch.Generator().manual_seed(0)
    content, about = read_tensors(mixture_reference)
    spoiled = {
        name: tensor + 0.5 * torch.randn(tensor.shape, generator=generator) if name.startswith("backbone/") else tensor
        for name, tensor in content.items()
    }
    write_tensors(Path("spoiled.safetensors"), spoiled, about)
    draws = ["--data.draws", "512", "--trainer.max_epochs", "2", "--data.steps_per_round", "1"]
    result = done("fit", *mixture_fit, *ONE, *draws, "--model.weights", "spoiled.safetensors")
    assert result.out.count("warning: the reference is not consistent with its own draws") == 1
    assert "model.objective=graft.objectives.AnchoredShaping" in result.out
    first, second = summary(folder / "runs/mixture/1")["rounds"]
    assert first["reference_error"]["lower"] is None or first["reference_error"]["lower"] > 0.5
    assert second["reference_error"] is None
    assert "error of the reference on its own draws" in (folder / "runs/mixture/1/report.html").read_text()
    right = done("fit", *mixture_fit, *ONE, *draws[:2], "--data.steps_per_round", "1")
    assert "not consistent" not in right.out
    anchored = [*OBJECTIVES["anchored"], "--model.weights", "spoiled.safetensors"]
    assert "not consistent" not in done("fit", *mixture_fit, *ONE, *draws[:2], *anchored).out
