"""Draws of an earlier run, taken instead of sampling."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from called import done, run

NEW = "runs/mixture/1"


def account(folder: "str | Path" = NEW, number: int = 0) -> dict:
    return json.loads(Path(folder, "summary.json").read_text())["rounds"][number]


def test_another_rule_without_sampling(mixture_run: Path, mixture_fit: list[str]) -> None:
    """No denoiser call and no reward call in the rounds; the draws are the earlier run's own files."""
    done("fit", *mixture_fit, "--data.storage.reuse_runs", f"[{mixture_run}]", "--data.accept.fraction", "0.25")
    for number in (0, 1):
        now, then = account(number=number), account(mixture_run, number)
        assert (now["denoiser_calls"], now["reward_calls"], now["reused"]) == (0, 0, 64)
        assert (then["denoiser_calls"], then["reward_calls"], then["reused"]) == (64 * 8, 64, 0)
        assert now["reward"] == then["reward"] and now["accepted"] < then["accepted"] <= 32 + 2
    ours, theirs = (Path(run, "rounds/0") for run in (NEW, mixture_run))
    assert (ours / "stored_00000.safetensors").read_bytes() == (theirs / "chunk_00000.safetensors").read_bytes()


def test_the_same_settings_give_the_same_weights(mixture_run: Path, mixture_fit: list[str]) -> None:
    done("fit", *mixture_fit, "--data.storage.reuse_runs", f"[{mixture_run.parent.parent}]")  # the folder of all runs
    tensors = [Path(run, "tuned.safetensors") for run in (NEW, mixture_run)]
    from graft.io.checksum import checksum
    from graft.io.tensors import read_tensors

    assert checksum(read_tensors(tensors[0])[0]) == checksum(read_tensors(tensors[1])[0])


def test_another_reward_scores_the_stored_draws(mixture_run: Path, mixture_fit: list[str]) -> None:
    done("fit", *mixture_fit, "--data.storage.reuse_runs", f"[{mixture_run}]", "--data.reward.path", "tried.narrow")
    now, then = account(), account(mixture_run)
    assert (now["denoiser_calls"], now["reward_calls"]) == (0, 64) and now["reward"] == -then["reward"]


def test_the_other_direction_needs_no_score(mixture_run: Path, mixture_fit: list[str]) -> None:
    done(
        "fit", *mixture_fit, "--data.storage.reuse_runs", f"[{mixture_run}]", "--data.reward.higher_is_better", "false"
    )
    now, then = account(), account(mixture_run)
    assert (now["denoiser_calls"], now["reward_calls"]) == (0, 0)
    assert now["accepted_reward"] < then["reward"] < then["accepted_reward"]


def test_more_draws_than_are_stored(mixture_run: Path, mixture_fit: list[str]) -> None:
    done(
        "fit",
        *mixture_fit,
        "--data.storage.reuse_runs",
        f"[{mixture_run}]",
        "--data.draws",
        "96",
        "--trainer.max_epochs",
        "1",
    )
    assert (account()["reused"], account()["denoiser_calls"], account()["reward_calls"]) == (64, 32 * 8, 32)


def test_rounds_of_the_current_model(mixture_run: Path, mixture_fit: list[str]) -> None:
    """A model that was trained samples again."""
    done("fit", *mixture_fit, "--data.source", "current", "--run_dir", "first")
    done("fit", *mixture_fit, "--data.source", "current", "--run_dir", "second", "--data.storage.reuse_runs", "[first]")
    assert [account("second", number)["reused"] for number in (0, 1)] == [64, 0]


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        (["--seed_everything", "5"], "seed"),
        (["--model.steps", "16"], "steps"),
        (["--model.process.init_args.eta", "0.5"], "process"),
    ],
)
def test_draws_of_another_distribution_are_refused(
    setting: list[str], named: str, mixture_run: Path, mixture_fit: list[str]
) -> None:
    message = run("fit", *mixture_fit, "--data.storage.reuse_runs", f"[{mixture_run}]", *setting).message
    assert f"another {named}:" in message and "data.storage.reuse_runs" in message


def test_levels_of_the_store(mixture_run: Path, mixture_fit: list[str]) -> None:
    message = run("fit", *mixture_fit, "--data.storage.reuse_runs", f"[{mixture_run}]", "--model.level", "0.5").message
    assert "level 0.5" in message and "only at 0." in message
    done("fit", *mixture_fit, "--run_dir", "more", "--data.storage.record_levels", "[0.5]", "--trainer.max_epochs", "1")
    done(
        "fit",
        *mixture_fit,
        "--data.storage.reuse_runs",
        "[more]",
        "--model.level",
        "0.5",
        "--trainer.max_epochs",
        "1",
        "--run_dir",
        "on",
    )
    assert account("on")["reused"] == 64


def test_no_store(mixture_run: Path, mixture_fit: list[str], folder: Path) -> None:
    (folder / "empty").mkdir()
    assert "no draws of a run" in run("fit", *mixture_fit, "--data.storage.reuse_runs", "[empty]").message
    shutil.copytree(mixture_run / "rounds", folder / "broken/rounds")
    (folder / "broken/rounds/0/chunk_00001.safetensors").write_bytes(b"{")
    assert "chunk_00001" in run("fit", *mixture_fit, "--data.storage.reuse_runs", "[broken]").message


def test_which_samples_trained_a_model(mixture_run: Path) -> None:
    for number in (0, 1):
        folder = mixture_run / "rounds" / str(number)
        rows = list(csv.DictReader((folder / "accepted.csv").read_text().splitlines()))
        content = json.loads((folder / "round.json").read_text())
        assert [int(row["draw"]) for row in rows] == content["index"]
        scores = [json.loads((folder / f"scores_{i:05d}.json").read_text()) for i in (0, 1)]
        values = [value for part in scores for value in part["values"]]
        assert all(float(row["reward"]) == values[int(row["draw"])] for row in rows)


def test_proxy_and_budget(mixture_fit: list[str]) -> None:
    """Two rounds share what validation and comparison leave: 200 − 2·32 − 2·16 = 104."""
    proxy = [
        "--data.budget.proxy_reward",
        "graft.reward.FunctionReward",
        "--data.budget.proxy_reward.path",
        "tried.spread",
    ]
    proxy += ["--data.budget.proxy_reward.timeout", "null", "--data.budget.proxy_fraction", "0.75"]
    done("fit", *mixture_fit, *proxy, "--data.budget.max_calls", "200", "--run_dir", "screened")
    for number in (0, 1):
        found = account("screened", number)
        assert found["reward_calls"] == 48 and found["not_scored"] == 16 and found["failed_rewards"] == 0
    done("fit", *mixture_fit, *proxy, "--data.budget.max_calls", "160", "--run_dir", "short")
    assert [account("short", number)["reward_calls"] for number in (0, 1)] == [32, 32]
    done("fit", *mixture_fit, "--data.budget.max_calls", "160", "--run_dir", "blind")
    kept = [json.loads(Path("screened/rounds/0", f"scores_{i:05d}.json").read_text())["values"] for i in (0, 1)]
    full = [json.loads(Path("screened/rounds/0", f"proxy_{i:05d}.json").read_text())["values"] for i in (0, 1)]
    scored = [
        (value is not None, other) for a, b in zip(kept, full, strict=True) for value, other in zip(a, b, strict=True)
    ]
    assert sum(other for known, other in scored if known) / 48 > sum(other for known, other in scored if not known) / 16
    message = run("fit", *mixture_fit, "--data.budget.max_calls", "90").message
    assert "max_calls is 90" in message and "96" in message


def test_settings_of_store_and_proxy(mixture_fit: list[str]) -> None:
    assert "proxy_fraction is 0" in run("fit", *mixture_fit, "--data.budget.proxy_fraction", "0").message
    assert "data.storage.record_levels" in run("fit", *mixture_fit, "--data.storage.record_levels", "[1.5]").message
