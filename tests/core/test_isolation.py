"""A reward in this process may change global state: it is restored when the reward returns or raises."""

import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graft.reward import Reward, score_objects


def state() -> dict[str, Any]:
    """Return the state of this process that a reward may change."""
    umask = os.umask(0)
    os.umask(umask)
    return {
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "random": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "threads": torch.get_num_threads(),
        "gradients": torch.is_grad_enabled(),
        "dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "handlers": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "blocked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "umask": umask,
        "streams": (sys.stdout, sys.stderr),
        "warnings": list(warnings.filters),
    }


CHANGES: dict[str, Callable[[], Any]] = {
    "folder": lambda: os.chdir("/"),
    "environment": lambda: os.environ.update(GRAFT_TEST="1"),
    "environment emptied": lambda: os.environ.clear(),
    "seeds": lambda: (random.seed(0), np.random.seed(0), torch.manual_seed(0)),
    "draws": lambda: (random.random(), np.random.rand(), torch.rand(3)),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "gradients": lambda: torch.set_grad_enabled(not torch.is_grad_enabled()),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "handlers": lambda: [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)],
    "blocked": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM]),
    "umask": lambda: os.umask(0),
    "streams": lambda: setattr(sys, "stdout", None),
    "warnings": lambda: warnings.simplefilter("ignore"),
}


class Intruder(Reward):
    def __init__(self, name: str, raises: bool) -> None:
        self.change, self.raises = CHANGES[name], raises

    def score(self, item: Any) -> float:
        self.change()
        if self.raises:
            raise RuntimeError("after it")
        return 1.0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_nothing_is_left(name: str, raises: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = state()
    scores = score_objects(Intruder(name, raises), [0, 1])
    after = state()
    assert len(scores.failures) == (2 if raises else 0)
    assert {key: value for key, value in after.items() if value != before[key]} == {}


def test_a_folder_that_the_reward_removes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to put back, and the score counts."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setitem(CHANGES, "removed", lambda: folder.exists() and folder.rmdir())
    assert score_objects(Intruder("removed", False), [0]).values == [1.0]
    os.chdir(tmp_path)
