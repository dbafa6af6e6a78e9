"""Ten thousand calls of which one in twenty goes wrong, in a dozen ways: all are accounted for, none is scored 0."""

import itertools
import math
import random
from pathlib import Path

import callables
import pytest

from graft.errors import GraftError
from graft.reward import FunctionReward

FAULTS = {  # calls of each kind, and a word of the reason
    "raise": (90, "ZeroDivisionError"),
    "hang": (24, "no answer within"),
    "exit": (40, "exit status 3"),
    "kill": (40, "exit status -9"),
    "leave": (20, "the worker process died"),
    "nan": (60, "the reward is nan"),
    "infinite": (46, "the reward is -inf"),
    "none": (60, "NoneType"),
    "text": (60, "not a number but str"),
    "list": (40, "not a number but list"),
    "unsendable": (20, "pickle"),
}
COUNT = 10_000


@pytest.mark.slow
def test_ten_thousand_calls() -> None:
    kinds = [kind for kind, (count, _) in FAULTS.items() for _ in range(count)]
    assert len(kinds) == COUNT // 20
    items = [(kind, float(i)) for i, kind in enumerate(kinds)]
    items += [("work", float(i)) for i in range(len(kinds), COUNT)]
    random.Random(0).shuffle(items)
    reward = FunctionReward("callables.faulty", timeout=0.6, workers=8)
    try:
        scores = reward(items)
    finally:
        reward.teardown()
    assert len(scores.values) == COUNT
    failed = 0
    for i, (kind, number) in enumerate(items):
        if kind == "work" and not math.isnan(scores.values[i]):
            assert scores.values[i] == callables.faulty((kind, number)) and i not in scores.failures
        elif kind == "work":  # a machine so busy that a call took longer than the limit: reported, too
            assert "no answer within" in scores.failures[i]
            failed += 1
        else:
            assert math.isnan(scores.values[i])
            assert FAULTS[kind][1] in scores.failures[i] or "no answer within" in scores.failures[i]
    assert 0.0 not in scores.values
    assert len(scores.failures) == len(kinds) + failed and failed < 20


def test_batches() -> None:
    """Faults in a batch are found one by one; a wrong length too."""
    items = [("work", float(i)) for i in range(200)]
    for place, kind in ((7, "exit"), (60, "raise"), (111, "short"), (150, "nan"), (151, "kill")):
        items[place] = (kind, float(place))
    reward = FunctionReward("callables.faulty_batch", timeout=20.0, batched=True, workers=8)
    try:
        scores = reward(items)
    finally:
        reward.teardown()
    assert sorted(scores.failures) == [7, 60, 111, 150, 151]
    assert all(math.isnan(scores.values[i]) for i in scores.failures)
    assert "0 values for 1 object" in scores.failures[111]
    right = [value for i, value in enumerate(scores.values) if i not in scores.failures]
    assert right == [i + 0.5 for i in range(200) if i not in scores.failures]


def test_workers_that_cannot_start_end_it_at_once() -> None:
    with pytest.raises(GraftError, match="no reward function"):
        FunctionReward("callables.nothing", workers=2)([1.0] * 1000)


@pytest.mark.parametrize("settings", [{"workers": 0}, {"workers": 2, "timeout": None}, {"timeout": 0}])
def test_settings(settings: dict) -> None:
    with pytest.raises(GraftError, match=r"callables\.square"):
        FunctionReward("callables.square", **settings)


def test_hung_call_leaves_no_process(tmp_path: Path) -> None:
    """Processes that the callable started end with it."""
    import os
    import time

    reward = FunctionReward("callables.starts_another", timeout=1.0)
    scores = reward([str(tmp_path / "pid")])
    reward.teardown()
    assert "no answer" in scores.failures[0]
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":  # ended, and its parent has not waited for it yet
            return
        time.sleep(0.02)
    raise AssertionError("it still runs")


@pytest.mark.parametrize(("name", "reason"), [("leaks_memory", "MemoryError"), ("leaks_files", "Too many open files")])
def test_a_callable_that_leaks(name: str, reason: str) -> None:
    """One call is lost when its process has run out; the next ones have a new process."""
    reward = FunctionReward(f"callables.{name}", timeout=20.0)
    try:
        scores = reward([float(i) for i in range(30)])
    finally:
        reward.teardown()
    assert 2 <= len(scores.failures) <= 6 and all(reason in text for text in scores.failures.values())
    positions = sorted(scores.failures)
    assert all(later - earlier > 2 for earlier, later in itertools.pairwise(positions))
    assert all(scores.values[i] == i for i in range(30) if i not in scores.failures)
