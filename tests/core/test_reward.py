"""A reward that raises, hangs, crashes or returns NaN costs that sample, has a reason, and is never 0."""

import math
import time
from collections.abc import Iterator

import callables
import pytest

from graft.errors import GraftError
from graft.reward import FunctionReward, Reward, Scores
from graft.reward.worker import Worker


class Unwelcome:
    """Arrives as a call that fails."""

    def __reduce__(self) -> tuple:
        return int, ("no number",)


@pytest.fixture
def function() -> Iterator:
    made: list[FunctionReward] = []

    def make(name: str, **settings: object) -> FunctionReward:
        made.append(FunctionReward(f"callables.{name}", **settings))
        return made[-1]

    yield make
    for one in made:
        one.teardown()


def check(scores: Scores, right: list["float | None"]) -> None:
    """Values where there are any, NaN and a reason for exactly the others."""
    assert len(scores.values) == len(right)
    for i, (value, expected) in enumerate(zip(scores.values, right, strict=True)):
        if expected is None:
            assert math.isnan(value) and scores.failures[i].strip() and "\n" not in scores.failures[i]
        else:
            assert value == expected and type(value) is float
    assert sorted(scores.failures) == [i for i, expected in enumerate(right) if expected is None]


@pytest.mark.parametrize("timeout", [20.0, None], ids=["worker", "here"])
def test_working_reward_equals_direct_calls(function, timeout: "float | None") -> None:
    items = [0.0, 1.5, -3.0, 1e9]
    check(function("square", timeout=timeout)(items), [callables.square(x) for x in items])
    check(function("squares", timeout=timeout, batched=True)(items), callables.squares(items))
    check(function("numpy_batch", timeout=timeout, batched=True)(items[:3]), [0.0, 3.0, -6.0])
    assert function("square", timeout=timeout).score(3.0) == 9.0
    assert function("squares", timeout=timeout, batched=True).score(3.0) == 9.0
    check(function("squares", timeout=timeout, batched=True)([]), [])


TROUBLES = {
    11: "division by zero",
    12: "no answer within 0.7 s",
    13: "nan",
    14: "exit status 3",
    15: "NoneType",
    16: "inf",
    17: "died",
    18: "pickle",
    19: "str",
    20: "exit status -9",
}


@pytest.mark.parametrize("batch", [False, True], ids=["single", "batch"])
def test_trouble_costs_one_sample(function, batch: bool) -> None:
    """Each trouble between two that work; a batch that fails is scored one by one."""
    reward = function("troubled_batch" if batch else "troubled", timeout=0.7, batched=batch)
    items, right = [1.0], [1.5]
    for trouble in TROUBLES:
        items += [float(trouble), 2.0]
        right += [None, 2.5]
    start = time.monotonic()
    scores = reward(items)
    assert time.monotonic() - start < 20  # not the minute that the hanging one sleeps
    check(scores, right)
    for position, words in zip(range(1, len(items), 2), TROUBLES.values(), strict=True):
        assert words in scores.failures[position].lower() or words in scores.failures[position]


def test_trouble_in_this_process(function) -> None:
    reward = function("troubled", timeout=None)
    check(reward([1.0, 11.0, 13.0, 15.0, 16.0, 19.0, 2.0]), [1.5, None, None, None, None, None, 2.5])


@pytest.mark.parametrize("timeout", [20.0, None], ids=["worker", "here"])
def test_batch_with_some_values_missing(function, timeout: "float | None") -> None:
    """NaN and None in a list that is whole cost their own samples, in one call."""
    reward = function("troubled_batch", timeout=timeout, batched=True)
    check(reward([1.0, 13.0, 2.0, 15.0, 3.0]), [1.5, None, 2.5, None, 3.5])


def test_prints_do_not_mix_with_answers(function, capfd: pytest.CaptureFixture[str]) -> None:
    check(function("talkative", timeout=20.0)([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0])
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "from a shell" in captured.err  # shown, on the other stream


def test_worker_stays_until_it_must_not(function) -> None:
    """One process for all calls (a model is loaded once); another one after a crash."""
    assert function("counter", timeout=20.0)([0.0] * 3).values == [1.0, 2.0, 3.0]
    reward = function("troubled", timeout=20.0)
    reward([1.0])
    first = reward._workers.workers[0]._process.pid
    reward([2.0])
    assert reward._workers.workers[0]._process.pid == first
    reward([14.0, 2.0])
    assert reward._workers.workers[0]._process.pid != first
    child = reward._workers.workers[0]._process
    reward.teardown()
    assert child.poll() is not None and reward._workers.workers[0]._process is None
    check(reward([2.0]), [2.5])  # and it can be called again


@pytest.mark.parametrize(
    ("name", "why"), [("one_short", "0 values for 1 object"), ("no_list", "not a list of numbers")]
)
@pytest.mark.parametrize("timeout", [20.0, None], ids=["worker", "here"])
def test_batch_of_wrong_length(function, name: str, why: str, timeout: "float | None") -> None:
    """Values that cannot be distinguished fail."""
    scores = function(name, timeout=timeout, batched=True)([1.0, 2.0, 3.0])
    check(scores, [None] * 3)
    assert all(why in message for message in scores.failures.values())


@pytest.mark.parametrize("timeout", [20.0, None], ids=["worker", "here"])
@pytest.mark.parametrize(
    "path", ["callables.nothing", "no_such_module.square", "no_such.module.square", "square", "callables."]
)
def test_unknown_path(path: str, timeout: "float | None") -> None:
    with pytest.raises(GraftError, match=r"package\.module\.function"):
        FunctionReward(path, timeout=timeout)([1.0])


def test_not_callable() -> None:
    with pytest.raises(GraftError, match="not a function"):
        FunctionReward("callables.not_callable", timeout=None)


def test_interpreter_that_is_not_there() -> None:
    with pytest.raises(GraftError, match="could not be started"):
        FunctionReward("callables.square", python="/no/such/python")([1.0])


def test_names() -> None:
    reward = FunctionReward("callables.square", unit="eV", higher_is_better=False)
    assert (reward.name, reward.unit, reward.higher_is_better) == ("square", "eV", False)
    assert FunctionReward("callables.square", name="energy").name == "energy"


@pytest.mark.parametrize("item", [lambda: 1.0, Unwelcome()], ids=["cannot be sent", "cannot be read"])
def test_objects_that_do_not_travel(function, item: object) -> None:
    check(function("square", timeout=2.0)([1.0, item, 2.0]), [1.0, None, 4.0])


class Own(Reward):
    name = "own"

    def score(self, item: float) -> float:
        if item > 2:
            raise KeyError("no such atom")
        return item


def test_own_reward() -> None:
    scores = Own()([1.0, 3.0, 2.0])
    check(scores, [1.0, None, 2.0])
    assert "KeyError" in scores.failures[1] and "no such atom" in scores.failures[1]


def test_large_objects() -> None:
    """More than a pipe holds, both ways."""
    worker = Worker("callables.squares", 20.0)
    try:
        values = [float(i) for i in range(200_000)]
        assert worker.call(values) == [x * x for x in values]
    finally:
        worker.close()
