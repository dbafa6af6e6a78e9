"""A cached reward returns the values of the reward, and calls it once for each content."""

import math
from pathlib import Path
from typing import Any

import pytest

from graft import GraftError
from graft.io.fingerprint import fingerprint
from graft.reward import CachedReward, Reward


class Counted(Reward):
    """Fails for negative numbers."""

    name, unit, higher_is_better = "root", "m", False

    def __init__(self, power: float = 0.5) -> None:
        self.power = power
        self._calls: list[Any] = []

    def score(self, item: Any) -> float:
        self._calls.append(item)
        if item[0] < 0:
            raise ValueError("negative")
        return item[0] ** self.power


def first(item: Any) -> float:
    return item[0]


@pytest.fixture(params=[False, True], ids=["memory", "file"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> "str | None":
    return str(tmp_path / "deep" / "scores.sqlite") if request.param else None


def test_called_once(file: "str | None") -> None:
    inner = Counted()
    reward = CachedReward(inner, path=file)
    reward.setup()
    items = [(4.0,), (9.0,), (4.0,), (-1.0,), (-1.0,), (16.0,)]
    first_time, second = reward(items), reward(items)
    for scores, cached in ((first_time, 2), (second, 5)):
        assert scores.values[:3] == [2.0, 3.0, 2.0] and scores.values[5] == 4.0
        assert sorted(scores.failures) == [3, 4] and all(math.isnan(scores.values[i]) for i in (3, 4))
        assert len(scores.cached) == cached
    assert inner._calls == [(4.0,), (9.0,), (-1.0,), (16.0,), (-1.0,)]  # failures are scored again
    assert reward.score((9.0,)) == 3.0 and len(inner._calls) == 5
    with pytest.raises(ValueError, match="negative"):
        reward.score((-1.0,))
    assert (reward.name, reward.unit, reward.higher_is_better) == ("root", "m", False)
    assert fingerprint(reward) == fingerprint(Counted())  # the scores of a run are the reward's


def test_cached_values_that_count_as_calls(file: "str | None") -> None:
    inner = Counted()
    reward = CachedReward(inner, path=file, count_cached=True)
    items = [(4.0,), (9.0,), (4.0,), (-1.0,)]
    for _ in range(2):
        scores = reward(items)
        assert scores.values[:3] == [2.0, 3.0, 2.0] and sorted(scores.failures) == [3]
        assert not scores.cached and scores.reward_calls == len(items)
    assert inner._calls == [(4.0,), (9.0,), (-1.0,), (-1.0,)]


def test_file_serves_other_processes_and_tells_rewards_apart(tmp_path: Path) -> None:
    file = str(tmp_path / "scores.sqlite")
    CachedReward(Counted(), path=file)([(4.0,)])
    again, other = Counted(), Counted(power=2.0)
    assert CachedReward(again, path=file)([(4.0,)]).values == [2.0] and not again._calls
    assert CachedReward(other, path=file)([(4.0,)]).values == [16.0]


def test_by_a_part() -> None:
    inner = Counted()
    reward = CachedReward(inner, key="test_cache.first")
    assert reward([(4.0, "a"), (4.0, "b"), ()]).values[:2] == [2.0, 2.0] and len(inner._calls) == 1
    assert "IndexError" in reward([()]).failures[0]


def test_memory_is_bounded() -> None:
    inner = Counted()
    reward = CachedReward(inner, max_entries=3)
    reward([(float(i),) for i in range(10)])
    assert len(reward._known) == 3
    assert reward([(9.0,)]).cached == {0} and not reward([(0.0,)]).cached


def test_objects_that_do_not_pickle() -> None:
    scores = CachedReward(Counted())([lambda: 1.0, (4.0,)])
    assert scores.values[1] == 2.0 and "cannot be computed" in scores.failures[0]


def test_file_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "scores.sqlite").write_text("not a database, and long enough to be read as one" * 100)
    with pytest.raises(GraftError, match=r"scores\.sqlite"):
        CachedReward(Counted(), path=str(tmp_path / "scores.sqlite")).setup()
    (tmp_path / "file").write_text("")
    with pytest.raises(GraftError, match="cannot be read or written"):
        CachedReward(Counted(), path=str(tmp_path / "file" / "below.sqlite")).setup()
