"""Reward calls are counted as they are made: cached scores are no calls, and each reward has its own count."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import plane
import pytest
import torch
from trained import rollouts_of

import graft
from domains.molecules.rewards import DesirabilityWindow, Gated, GeometricMean
from graft import cli
from graft.commands.compare.best_of import best_of_n
from graft.evaluation import SampleEvaluator
from graft.process import CosineSchedule, Gaussian
from graft.reward import CachedReward, Reward, WeightedSum, by_term, leaves, score_objects
from graft.rollouts.settings import LevelSearch
from graft.rounds import RoundStore

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's
CALLS: Counter[str] = Counter()


class Costly(Reward):
    def __init__(self, name: str) -> None:
        self.name = name

    def score(self, item: Any) -> float:
        CALLS[self.name] += 1
        if item[0] > 2:
            raise ValueError("far out")
        return 1 / (1 + item[0] ** 2)


@pytest.fixture(autouse=True)
def fresh() -> None:
    CALLS.clear()


ITEMS = [(0.5,), (1.0,), (0.5,), (3.0,), (3.0,)]
MADE = {  # of the rewards a and b: calls of the first and of the second time, and of the reward as a whole
    "cached": (lambda a, b: CachedReward(a), [3, 0], [1, 0], 3, 1),
    "window": (lambda a, b: DesirabilityWindow(CachedReward(a), low=0.1), [3, 0], [1, 0], 3, 1),
    "weighted": (lambda a, b: WeightedSum([CachedReward(a), CachedReward(b)], [1, 1]), [3, 3], [1, 1], 3, 1),
    "cheap": (lambda a, b: WeightedSum([CachedReward(a), b], [1, 1]), [3, 5], [1, 5], 5, 5),
    "mean": (
        lambda a, b: GeometricMean(
            [DesirabilityWindow(CachedReward(a), low=0.1), DesirabilityWindow(CachedReward(b), low=0.2)]
        ),
        [3, 3],
        [1, 1],
        3,
        1,
    ),
    "nested": (
        lambda a, b: WeightedSum([WeightedSum([CachedReward(a), b], [1, 1]), CachedReward(b)], [1, 1]),
        [3, 8],
        [1, 6],
        5,
        5,
    ),
    "around": (lambda a, b: CachedReward(WeightedSum([a, b], [1, 1])), [3, 3], [1, 1], 3, 1),
    "twice": (lambda a, b: CachedReward(CachedReward(a)), [3, 0], [1, 0], 3, 1),
}


@pytest.mark.parametrize("name", MADE)
def test_real_calls(name: str) -> None:
    make, first, second, whole, again = MADE[name]
    reward = make(Costly("a"), Costly("b"))
    total = Counter[str]()
    for expected, number in ((first, whole), (second, again)):
        before = Counter(CALLS)
        scores = score_objects(reward, ITEMS)
        made = CALLS - before
        assert [made["a"], made["b"]] == expected and scores.reward_calls == number
        assert Counter(scores.calls) == made and sorted(scores.failures) == [3, 4]
        total += Counter(scores.calls)
    names = {leaf.name for leaf in leaves(reward)}
    assert by_term(reward, [total]) == {name: CALLS[name] for name in names}


def test_gate_counts_what_passes() -> None:
    class Odd(Gated):
        def passes(self, item: Any) -> bool:
            return item[0] < 1

    gate = Odd(CachedReward(Costly("a")), require=[], fallback=0.0)
    for calls in (1, 0):
        scores = score_objects(gate, ITEMS)
        assert Counter(scores.calls)["a"] == calls and scores.values == [0.8, 0.0, 0.8, 0.0, 0.0]
    assert by_term(gate, []) == {"a": 0}


def test_failed_calls_that_are_made_again_count_again(tmp_path: Path) -> None:
    """On disk the calls of a chunk add up; calls for an earlier run's draws are not this run's."""
    store = RoundStore(tmp_path, {"seed": 0}, [5], "r")
    scores = score_objects(CachedReward(Costly("a")), ITEMS)
    store.write_scores(0, scores, [""] * 5, reward_calls=scores.reward_calls)
    assert (store.reward_calls(0), store.calls_by_term(0)) == (3, {"a": 3})
    store.mark_failures_for_retry()
    assert (store.reward_calls(0), store.calls_by_term(0), store.pending_retries(0)) == (3, {"a": 3}, [3, 4])


def test_judge() -> None:
    judge = SampleEvaluator(WeightedSum([CachedReward(Costly("a")), CachedReward(Costly("b"))], [1, 1]), {})
    judge.update(list(ITEMS), 0)
    judge.update(list(ITEMS), 0)
    assert (judge.reward_calls, judge.calls_by_term) == (4, {"a": 4, "b": 4})


def test_a_whole_run_its_levels_and_the_best_of_several(tmp_path: Path) -> None:
    """Two runs with one file of scores: the summary has the calls of the second run."""

    def reward(name: str = "scores.sqlite") -> Reward:
        file = str(tmp_path / name)
        return WeightedSum(
            [DesirabilityWindow(CachedReward(Costly("a"), path=file), low=0.1), CachedReward(Costly("b"), path=file)],
            [1, 1],
        )

    for number in (1, 2):
        before = Counter(CALLS)
        data = plane.data(reward(), validation_draws=0)
        summary = graft.fit(plane.made(tmp_path), data, tmp_path / str(number), plane.trainer())
        counted = Counter(summary["reward_calls_by_term"]) + Counter(summary["evaluation_reward_calls_by_term"])
        assert counted == CALLS - before
        assert summary["rounds"][0]["reward_calls_by_term"] == summary["reward_calls_by_term"]
        assert summary["reward_calls"] == summary["reward_calls_by_term"]["b"] == (32 if number == 1 else 0)
        assert summary["evaluation_reward_calls"] <= 64 // number**2
    assert json.loads((tmp_path / "2/summary.json").read_text())["reward_calls_by_term"] == {"a": 0, "b": 0}
    for number in ("first", "again"):
        before = Counter(CALLS)
        best = best_of_n(plane.made(tmp_path), plane.trainer(), reward("other"), 8, 4, weights="reference")
        assert best.reward_calls == (CALLS - before)["b"] == (32 if number == "first" else 0)


def test_levels(tmp_path: Path) -> None:
    process = Gaussian(CosineSchedule(), "v", [2], eta=1.0)
    for first in (True, False):
        before = Counter(CALLS)
        module = plane.Plane(plane.Net(), process, plane.weights(tmp_path), steps=4)
        cached = CachedReward(Costly("a"), path=str(tmp_path / "scores.sqlite"))
        data = rollouts_of(
            WeightedSum([cached], [1.0]), draws=64, batch_size=32, level_search=LevelSearch((0.25, 0.5), draws=64)
        )
        found = graft.levels(module, data, tmp_path / str(first), plane.trainer())
        assert found.reward_calls == (CALLS - before)["a"] and (found.reward_calls > 100) == first
        assert sum(level.reward_calls for level in found.levels) in range(
            found.reward_calls - 64, found.reward_calls + 1
        )
        assert torch.isfinite(torch.tensor(found.reward))
