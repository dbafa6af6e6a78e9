"""Functions, lambdas, partials and objects as rewards: their process, their failures and their identity."""

import functools
import math
import os
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import callables
import plane
import pytest
import torch
from trained import rollouts_of

import graft
from graft import GraftError, Rollouts, cli
from graft.io.fingerprint import fingerprint, fingerprint_hash
from graft.reward import CachedReward, FunctionReward, Reward, WeightedSum, scorer
from graft.reward.code import unidentified

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's


class Own(Reward):
    def __init__(self, factor: float, query: Any = None) -> None:
        self._factor, self.query = factor, query

    def score(self, item: float) -> float:
        return self._factor * item


class Times:
    def __init__(self, factor: float) -> None:
        self._factor = factor

    def __call__(self, x: float) -> Any:
        return troubled(x, self._factor)

    def method(self, x: float) -> Any:
        return troubled(x, self._factor)


def troubled(x: float, factor: float = 2.0) -> Any:
    """Twice the number; above 10, each fails in its own way."""
    ways = {
        11: lambda: 1 / 0,
        12: lambda: math.nan,
        13: lambda: None,
        14: lambda: "2",
        15: lambda: sys.exit(3),
        16: lambda: [1.0],
        17: lambda: math.inf,
    }
    return ways.get(int(x), lambda: factor * x)()


def local() -> Any:
    return lambda x: troubled(x)


HERE = {
    "lambda": lambda x: troubled(x),
    "local": local(),
    "partial": functools.partial(troubled, factor=2.0),
    "object": Times(2.0),
    "method": Times(2.0).method,
}


@pytest.mark.parametrize("name", [*HERE, "__main__.f", "__main__.f itself"])
def test_runs_in_this_process_and_fails_like_any_other(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    vars(main)["f"] = HERE["lambda"]
    monkeypatch.setitem(sys.modules, "__main__", main)
    reward = rollouts_of("__main__.f" if name == "__main__.f" else HERE.get(name, main.f)).reward
    assert isinstance(reward, FunctionReward) and reward._workers is None and reward.name and "<" not in reward.name
    scores = reward([1.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 3.0])
    assert [scores.values[0], scores.values[-1]] == [2.0, 6.0]
    assert sorted(scores.failures) == [*range(1, 8)] and all(math.isnan(scores.values[i]) for i in range(1, 8))
    assert "ZeroDivisionError" in scores.failures[1] or "division" in scores.failures[1]


def test_what_can_be_imported_runs_in_a_worker() -> None:
    reward = rollouts_of(callables.process_id).reward
    assert isinstance(reward, FunctionReward) and reward.path == "callables.process_id"
    try:
        assert reward([0.0]).values[0] != os.getpid()
    finally:
        reward.teardown()
    assert fingerprint(reward) == fingerprint(FunctionReward("callables.process_id"))
    here = FunctionReward(callables.process_id, timeout=None)
    assert here([0.0]).values == [os.getpid()]
    batch = FunctionReward(lambda xs: [2 * x for x in xs], batched=True)
    assert batch([1.0, 2.0]).values == [2.0, 4.0]


def test_a_module_that_no_fresh_interpreter_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is in ``sys.modules``, but the import system does not find it, or finds another file."""
    made = ModuleType("made_by_hand")
    exec("def f(x): return x + 1", vars(made))
    monkeypatch.setitem(sys.modules, "made_by_hand", made)
    assert rollouts_of(made.f).reward([1.0]).values == [2.0]
    (tmp_path / "made_by_hand.py").write_text("def f(x): return -x")
    monkeypatch.syspath_prepend(tmp_path)
    made.__file__ = str(tmp_path / "elsewhere.py")
    assert rollouts_of(made.f).reward([1.0]).values == [2.0]


@pytest.mark.parametrize(
    ("wrong", "why"), [(3.0, "float"), (Reward, "class Reward"), (Own, "class Own"), (torch.zeros(1), "Tensor")]
)
def test_what_is_no_reward(wrong: Any, why: str) -> None:
    for build in (
        Rollouts,
        lambda x: WeightedSum([x], [1.0]),
        CachedReward,
        lambda x: rollouts_of(HERE["lambda"], held_out_reward=x),
    ):
        with pytest.raises(GraftError, match=why):
            build(wrong)
    with pytest.raises(GraftError, match="none of that name"):
        rollouts_of("__main__.no_such_function_here")


def test_everywhere_that_takes_a_reward() -> None:
    double = HERE["lambda"]
    assert WeightedSum([double, double], [1.0, 2.0])([1.0]).values == [6.0]
    assert CachedReward(double)([1.0]).values == [2.0]
    data = rollouts_of(double, proxy_reward=double, held_out_reward=double)
    assert all(isinstance(each, FunctionReward) for each in (data.reward, data.proxy_reward, data.held_out_reward))
    data.reward = HERE["partial"]
    assert isinstance(data.reward, FunctionReward) and data.reward([2.0]).values == [4.0]
    with pytest.raises(GraftError, match=r"data\.budget\.proxy_reward is int"):
        data.proxy_reward = 3


LIMIT = 3.0


def limited(x: float) -> float:
    return min(x, LIMIT)


def pair(k: float) -> tuple[Any, Any]:
    return (lambda x: k * x), (lambda x: x - k)


def own(factor: float) -> Reward:
    class Local(Reward):
        def score(self, item: float) -> float:
            return factor * item

    return Local()


class Opaque:
    """A reward with a state that cannot be read."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, x: float) -> float:
        return x


def test_no_two_rewards_are_confused(monkeypatch: pytest.MonkeyPatch) -> None:
    def defaulted(x: float, k: float = 1.0) -> float:
        return k * x

    def again(x: float, k: float = 2.0) -> float:
        return k * x

    tagged, other = (lambda x: x), (lambda x: x)
    other.weight = 2.0  # type: ignore[attr-defined]
    functions = [
        *pair(1.0), *pair(2.0), defaulted, again, tagged, other, lambda x: x + 1, lambda x: x + 2,
        functools.partial(troubled, factor=2.0), functools.partial(troubled, factor=3.0), functools.partial(troubled),
        Times(2.0), Times(3.0), Times(2.0).method, lambda x: LIMIT * x, lambda x: {1, 2} and x, lambda x: {1, 3} and x,
        Opaque(), Opaque(), lambda x: eval("x"), lambda x: eval("x"),
    ]  # fmt: skip
    rewards = [scorer(each, "reward") for each in functions]
    rewards += [Own(1.0), Own(2.0), Own(1.0, object()), own(1.0), own(2.0), own(2.0).__class__()]
    rewards += [Own(1.0, threading.Lock()), Own(1.0, threading.Lock()), WeightedSum([Own(1.0), Own(2.0)], [1.0, 1.0])]
    found = [fingerprint_hash(each) for each in rewards]
    twice = [i for i, each in enumerate(found) if found.index(each) != i]
    assert twice == [rewards.index(rewards[-4])], twice  # Local of one factor, made twice, is one reward
    before = fingerprint_hash(scorer(lambda x: LIMIT * x, "reward"))
    monkeypatch.setitem(globals(), "LIMIT", 4.0)
    assert fingerprint_hash(scorer(lambda x: LIMIT * x, "reward")) != before


def test_one_reward_is_the_same_again() -> None:
    """Made again, as on resume; a function without readable code is never the same."""
    for make in (
        *(lambda: pair(2.0)[0], lambda: Times(2.0), lambda: functools.partial(troubled, factor=2.0), local),
        *(lambda: Own(2.0), lambda: own(2.0), lambda: WeightedSum([Own(1.0), pair(2.0)[1]], [1.0, 2.0])),
    ):
        assert fingerprint_hash(scorer(make(), "reward")) == fingerprint_hash(scorer(make(), "reward"))
    assert fingerprint_hash(scorer(Opaque(), "reward")) != fingerprint_hash(scorer(Opaque(), "reward"))
    terms = [FunctionReward("callables.square"), "callables.first"]
    assert fingerprint_hash(WeightedSum(terms, [1.0, 2.0])) == fingerprint_hash(
        WeightedSum(weights=[1.0, 2.0], terms=terms)
    )
    assert fingerprint_hash(WeightedSum(terms, [1.0, 2.0])) == fingerprint_hash(
        WeightedSum([terms[0], FunctionReward(callables.first)], [1.0, 2.0])
    )
    assert (
        fingerprint_hash(Own(2.0))
        == fingerprint_hash(Own(factor=2.0))
        == fingerprint_hash(Own(2.0, None))
        != fingerprint_hash(Own(2.0, 3))
    )
    reward = scorer(Opaque(), "reward")
    assert fingerprint_hash(reward) == fingerprint_hash(reward) and unidentified(
        fingerprint(WeightedSum([reward], [1.0]))
    )


def test_remembered_scores_are_of_one_lambda(tmp_path: Path) -> None:
    file = str(tmp_path / "scores.sqlite")
    for factor in (1.0, 2.0, 1.0):
        assert CachedReward(pair(factor)[0], path=file)([3.0]).values == [3.0 * factor]
    assert CachedReward(pair(1.0)[0], path=file)([3.0]).cached == {0}
    assert not CachedReward(Opaque(), path=file)([3.0]).cached and not CachedReward(Opaque(), path=file)([3.0]).cached


def test_fit(tmp_path: Path) -> None:
    """A lambda that fails for some, then others on the same draws: only the same reward's scores are reused."""

    def run(name: str, reward: Any, **settings: Any) -> dict[str, Any]:
        module = plane.made(tmp_path)
        return graft.fit(module, plane.data(reward, alarms=None, **settings), tmp_path / name, plane.trainer())

    first = run("a", lambda p: p[0] if p[1] > 0 else 1 / 0)
    assert 0 < first["rounds"][0]["failed_rewards"] < 32 and first["reward_calls"] == 32
    store = [str(tmp_path / "a")]
    same = run("b", lambda p: p[0] if p[1] > 0 else 1 / 0, reuse_runs=store)
    other = run("c", lambda p: p[0] if p[1] > 0 else 2 / 0, reuse_runs=store)
    worker = run("d", callables.first, reuse_runs=store)
    assert [each["reward_calls"] for each in (same, other, worker)] == [0, 32, 32]
    assert same["reference"] == first["reference"] == other["reference"]
    assert first["reward"]["name"] == "lambda" and worker["reward"]["name"] == "first"
