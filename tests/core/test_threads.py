"""How threads wait is chosen before torch loads, and never against the user."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from graft.core import threads
from graft.reward.workers import Workers

NAMES = (*threads.CHOSEN_BY_USER, threads.THREADS)


def started(code: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


SHOWN = """
import graft, os, sys
print(os.environ.get("OMP_WAIT_POLICY"), graft.core.threads.PASSIVE, "torch" in sys.modules)
"""


def test_threads_sleep_unless_the_user_says_otherwise() -> None:
    assert started(SHOWN) == "PASSIVE True False"
    assert started(SHOWN, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE False False"
    assert started(SHOWN, GOMP_SPINCOUNT="1000") == "None False False"


def test_where_torch_is_loaded_already_nothing_is_claimed() -> None:
    code = "import sys, types; sys.modules['torch'] = types.ModuleType('torch')\n" + SHOWN
    assert started(code) == "None False True"


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(threads.THREADS, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    assert [threads.of_workers(n) for n in (1, 5, 20)] == [{threads.THREADS: n} for n in ("12", "2", "1")]
    monkeypatch.setenv(threads.THREADS, "3")
    assert threads.of_workers(5) == {}


def test_a_worker_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(threads.THREADS, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    workers = Workers(3, "os.getenv", 10.0)
    try:
        assert workers.call(threads.THREADS) == "2"
    finally:
        workers.close()


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("x", 8)])
def test_cores_are_those_that_are_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, cores: int
) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda process: range(8), raising=False)
    (tmp_path / "cpu.max").write_text(quota)
    assert threads.cores(tmp_path / "cpu.max") == cores and threads.cores(tmp_path / "none") == 8
