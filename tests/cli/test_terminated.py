"""SIGTERM while a model samples outside a run's training."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from called import QUIET, done, run

from graft.policy import Policy


@pytest.fixture
def terminated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send a SIGTERM before the second call of the sampler."""
    before, calls = Policy.sample, 0

    def sample(*args: Any, **settings: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return before(*args, **settings)

    monkeypatch.setattr(Policy, "sample", sample)


def test_sampling(mixture_run: Path, folder: Path, terminated: None) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    result = run("sample", "--weights", mixture_run, "-n", "3000", "--out", "a.csv")
    assert result.status == 143 and "graft: interrupted" in result.err and "resume" not in result.err
    assert not (folder / "a.csv").exists() and signal.getsignal(signal.SIGTERM) == handler


def test_comparison(mixture_fit: list[str], folder: Path, terminated: None, request: pytest.FixtureRequest) -> None:
    """The comparison resumes with the same command, and its rows are those of one that was not stopped."""
    args = ["compare", *mixture_fit, "--methods", "reference,best_of:2", "--seeds", "0,1", *QUIET]
    args += ["--data.evaluation.test_draws", "64"]
    result = run(*args, "--run_dir", "a")
    assert result.status == 143 and "resume with the same command and --run_dir" in result.err
    done(*args, "--run_dir", "a")
    done(*args, "--run_dir", "whole")
    names = [
        [line.split(",")[:20] for line in Path(each, "compare.csv").read_text().splitlines()] for each in ("a", "whole")
    ]
    assert names[0] == names[1] and len(names[0]) == 5
