"""Filters from the command line: refused draws stay refused over rounds, are counted, and survive a resume."""

import json
import shutil
import signal
from pathlib import Path

import pytest
import torch
from called import TOY, done, run
from safetensors.torch import load_file

RUN = "runs/molecule/1"
THREE = ["--trainer.max_epochs", "3", "--data.evaluation.validation_draws", "0", "--data.evaluation.test_draws", "8"]
MEMORY = "{class_path: graft.filters.Memory}"
NOVELTY = "{class_path: graft.filters.Novelty}"
NOTHING = """
from graft.filters import Filter


class Nothing(Filter):
    needs = frozenset()

    def __call__(self, draws, past, generator=None):
        return draws.eligible & False, draws.eligible & False

    def __str__(self):
        return "nothing at all"
"""
SIMILARITY = "{class_path: graft.filters.Similarity, init_args: {threshold: 0.8}}"


def filters(*each: str) -> list[str]:
    return ["--data.filters", f"[{', '.join(each)}]"]


def keys(folder: str, number: int) -> tuple[list[str], list[str]]:
    """(of all draws of a round, of those that it accepted)."""
    paths = sorted(Path(folder, "rounds", str(number)).glob("scores_*.json"))
    drawn = [key for path in paths for key in json.loads(path.read_text())["keys"]]
    index = json.loads(Path(folder, "rounds", str(number), "round.json").read_text())["index"]
    return drawn, [drawn[i] for i in index]


def summary(folder: str) -> dict:
    return {k: v for k, v in json.loads(Path(folder, "summary.json").read_text()).items() if k != "seconds"}


def test_memory(small: list[str]) -> None:
    """No key twice in three rounds, although the same ones are drawn."""
    done("fit", *small, *THREE, *filters(MEMORY), "--data.accept", "AcceptAll", "--data.accept.deduplicate", "false")
    drawn, accepted = zip(*(keys(RUN, n) for n in range(3)), strict=True)
    named = [key for part in accepted for key in part if key]
    assert named and len(named) == len(set(named))
    assert set(drawn[0]) & set(drawn[1]) - {""}  # else the test says nothing
    run_summary = summary(RUN)
    assert run_summary["rule"] == "each key once, then all within each condition"
    for number, account in enumerate(run_summary["rounds"]):
        assert account["filtered"] == {"each key once": 64 - account["accepted"] - account["failed_rewards"]}
        assert set(key for key in drawn[number] if key) <= set(named)
    assert "rollout/refused" in Path(RUN, "metrics.csv").read_text()
    assert "each key once" in Path(RUN, "report.html").read_text()


def test_all_together(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that resumes in its second round has the same result, bit by bit."""
    import callbacks

    args = [*small, *THREE, *filters(NOVELTY, SIMILARITY, MEMORY), "--trainer.callbacks", "callbacks.Killed"]
    done("fit", *args, "--run_dir", "whole")
    handler = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Killed, "on_train_batch_end", callbacks.interrupt())
        assert run("fit", *args).status == 130
    signal.signal(signal.SIGINT, handler)
    done("fit", *args, "--ckpt_path", "last")
    ours, theirs = (load_file(f"{path}/tuned.safetensors") for path in (RUN, "whole"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert summary(RUN) == summary("whole")
    names = {"not in the training data", "tanimoto similarity at most 0.8", "each key once"}
    assert all(set(account["filtered"]) == names for account in summary(RUN)["rounds"])


def test_nothing_left(small: list[str], folder: Path) -> None:
    """One sentence that names the filter and what to do; the draws are kept."""
    (folder / "mine.py").write_text(NOTHING)
    message = run("fit", *small, *THREE, *filters("{class_path: mine.Nothing}")).message
    assert "'nothing at all' rejects all 64" in message and "draw more" in message
    assert Path(RUN, "rounds/0/chunk_00001.safetensors").exists()


@pytest.mark.parametrize(
    ("each", "words"),
    [
        ("{class_path: graft.filters.Memory, init_args: {bucket_size: 0}}", "bucket_size is 0"),
        ("{class_path: graft.filters.Memory, init_args: {rounds: 0}}", "rounds is 0"),
        ("{class_path: graft.filters.Similarity, init_args: {threshold: 1.2}}", "threshold is 1.2"),
        ("{class_path: graft.filters.Similarity, init_args: {measure: euclid}}", "euclid"),
        ("{class_path: graft.filters.Nonsense}", "Nonsense"),
        ("{class_path: graft.accept.AcceptAll}", "filters"),
    ],
)
def test_bad_settings(each: str, words: str, small: list[str]) -> None:
    assert words in run("fit", *small, *filters(each)).message
    assert not Path("runs").exists()


def test_domain_without(folder: Path) -> None:
    """Hooks that the domain lacks are refused before sampling."""
    shutil.copytree(TOY / "domains", folder / "domains")
    quiet = ["--trainer.enable_progress_bar", "false"]
    done("pretrain", "--config", "domains/mixture/pretrain.yaml", "--trainer.max_epochs", "1", *quiet)
    args = ["fit", "--config", "domains/mixture/mixture.yaml", *quiet]
    args += ["--model.weights", "runs/pretrain/1/reference.safetensors"]
    for each in (MEMORY, NOVELTY, SIMILARITY):
        assert "Mixture has no key" in run(*args, *filters(each)).message
    assert not list(folder.rglob("chunk_*"))
