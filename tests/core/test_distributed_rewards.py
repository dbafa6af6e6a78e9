"""A distributed reward: any executor scores, a lost worker costs its objects alone, and nothing is scored 0."""

import json
import math
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from pathlib import Path
from typing import Any, ClassVar

import callables
import pytest

from graft import GraftError
from graft.reward import (
    CachedReward,
    DistributedReward,
    FunctionReward,
    Reward,
    WeightedSum,
    chunk_scoring,
    score_objects,
)
from graft.reward.isolation import isolated, shared
from graft.reward.remote import ChunkFailed, read_answer, score_chunk

PROCESSES = "concurrent.futures.ProcessPoolExecutor"
THREADS = "concurrent.futures.ThreadPoolExecutor"
SQUARE = "callables.square"


def here(path: str, **settings: Any) -> FunctionReward:
    """A function that runs in the executor's own process."""
    return FunctionReward(path, timeout=None, **settings)


class Fake(Executor):
    """Scores in this process; ``spoil`` may replace the result of a call by another one, or raise."""

    opened: ClassVar[list["Fake"]] = []

    def __init__(self, spoil: Callable[[int, list[Any]], Any] = lambda number, items: None) -> None:
        self.spoil, self.calls, self.closed = spoil, 0, False
        Fake.opened.append(self)

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        items = [pickle.loads(data) for data in args[1]]
        self.calls += bool(items)
        try:
            spoiled = self.spoil(self.calls, items) if items else None
            if spoiled == "cancel":
                assert future.cancel()
                future.set_running_or_notify_cancel()
            else:
                future.set_result(function(*args, **kwargs) if spoiled is None else spoiled)
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def none_open() -> Iterator[None]:
    Fake.opened.clear()
    yield
    assert all(each.closed for each in Fake.opened[:-1])


@pytest.mark.parametrize("executor", [PROCESSES, THREADS])
def test_scores_in_order_and_counts_calls(executor: str) -> None:
    reward = DistributedReward(here(SQUARE, name="area", unit="nm"), executor, {"max_workers": 2}, chunk_size=3)
    reward.setup()
    for _ in range(1 + (executor == THREADS)):
        scores = score_objects(reward, [float(i) for i in range(10)])
        assert scores.values == [i * i for i in range(10)] and scores.calls == {"area": 10} and not scores.failures
        assert scores.reward_calls == 10
        reward.teardown()  # opens again at the next call
    assert reward.name == "area" and reward.unit == "nm" and (executor == PROCESSES or reward.score(3.0) == 9)
    reward.teardown()
    assert score_objects(reward, []).values == [] and reward._handle._open is None


def test_a_reward_with_workers_of_its_own() -> None:
    """A timeout, a crash and an exception of the inner reward are failures of their objects, without a second try."""
    inner = FunctionReward("callables.faulty", timeout=20)
    inner.setup()  # a child that runs is not sent
    reward = DistributedReward(inner, THREADS, {"max_workers": 2}, chunk_size=2)
    kinds = ["work", "raise", "kill", "nan", "work"]
    try:
        scores = score_objects(reward, [(kind, float(i)) for i, kind in enumerate(kinds)])
    finally:
        reward.teardown()
        inner.teardown()
    assert scores.values[0] == 0.5 and scores.values[4] == 4.5 and {*scores.failures} == {1, 2, 3}
    assert "ZeroDivisionError" in scores.failures[1] and "died" in scores.failures[2]
    assert scores.calls == {"faulty": 5}


def test_a_killed_process_costs_its_object_alone() -> None:
    """The pool of processes breaks as a whole; the rest of its chunks are scored."""
    items: list[Any] = [("work", float(i)) for i in range(9)]
    items[4] = ("kill", 4.0)
    reward = DistributedReward(here("callables.faulty"), options={"max_workers": 2}, chunk_size=2, retries=1)
    scores = score_objects(reward, items)
    reward.teardown()
    assert [value for i, value in enumerate(scores.values) if i != 4] == [i + 0.5 for i in range(9) if i != 4]
    assert math.isnan(scores.values[4]) and "died" in scores.failures[4] and "2 times" in scores.failures[4]
    assert [*scores.failures] == [4] and scores.calls == {"faulty": 9}


def test_a_process_that_is_killed_once_costs_nothing(tmp_path: Path) -> None:
    items = [("", 0.0), (str(tmp_path / "died"), 1.0), ("", 2.0), ("", 3.0)]
    reward = DistributedReward(here("callables.fatal_once"), options={"max_workers": 1}, chunk_size=2)
    scores = score_objects(reward, items)
    reward.teardown()
    assert scores.values == [0.5, 1.5, 2.5, 3.5] and not scores.failures and scores.calls == {"fatal_once": 4}


@pytest.mark.parametrize("executor", [PROCESSES, THREADS])
def test_a_time_limit(executor: str) -> None:
    items = [0.0, 1.0, -1.0, 3.0, 4.0]
    limit = 3.0 if executor == THREADS else 10.0  # seconds; a process imports the reward's module first
    reward = DistributedReward(
        here("callables.slow"), executor, {"max_workers": 2}, chunk_size=2, timeout=limit, retries=1
    )
    reward.setup()
    scores = score_objects(reward, items)
    reward.teardown()
    assert [value for value in scores.values if not math.isnan(value)] == [0, 1, 3, 4]
    assert [*scores.failures] == [2] and "time limit" in scores.failures[2]
    assert scores.calls == {"slow": 5}


def raises(error: Exception) -> Any:
    raise error


LOST = {
    "exception": lambda: raises(RuntimeError("the machine is gone")),
    "cancelled": lambda: "cancel",
    "broken": lambda: raises(BrokenExecutor("the connection is gone")),
    "pickle": lambda: b"not a text",
    "text": lambda: "[1, 2",
    "list": lambda: "[1, 2]",
    "short": lambda: json.dumps({"values": [], "failures": {}, "cached": [], "calls": {}}),
    "words": lambda: json.dumps({"values": ["1", "2"], "failures": {}, "cached": [], "calls": {}}),
    "truth": lambda: json.dumps({"values": [True, True], "failures": {}, "cached": [], "calls": {}}),
    "silent": lambda: json.dumps({"values": [None, None], "failures": {}, "cached": [], "calls": {}}),
    "elsewhere": lambda: json.dumps({"values": [1, 2], "failures": {"7": "x"}, "cached": [], "calls": {}}),
    "many calls": lambda: json.dumps({"values": [1, 2], "failures": {}, "cached": [], "calls": {"square": 10**9}}),
    "refusal of the chunk": lambda: json.dumps({"error": "no space left"}),
}


@pytest.mark.parametrize("how", LOST)
def test_a_lost_chunk_is_tried_again(how: str) -> None:
    spoil = lambda number, items: LOST[how]() if number == 2 and len(Fake.opened) == 1 else None  # noqa: E731
    reward = DistributedReward(here(SQUARE), lambda: Fake(spoil), chunk_size=2, retries=1)
    scores = score_objects(reward, [1.0, 2.0, 3.0, 4.0, 5.0])
    assert scores.values == [1, 4, 9, 16, 25] and not scores.failures and scores.calls == {"square": 5}
    assert len(Fake.opened) == 1 + (how == "broken")


@pytest.mark.parametrize("how", LOST)
def test_an_object_that_is_lost_each_time_fails(how: str) -> None:
    spoil = lambda number, items: LOST[how]() if 3.0 in items else None  # noqa: E731
    reward = DistributedReward(here(SQUARE), lambda: Fake(spoil), chunk_size=2, retries=2)
    scores = score_objects(reward, [1.0, 2.0, 3.0, 5.0])
    failed = {2, 3} if how == "broken" else {2}  # a broken connection has no single culprit
    assert {*scores.failures} == failed and all("3 times of 3" in why for why in scores.failures.values())
    assert math.isnan(scores.values[2]) and scores.values[:2] == [1, 4] and scores.calls == {"square": 4}


def test_a_number_that_is_not_finite_is_a_failure() -> None:
    spoil = lambda number, items: '{"values": [NaN, 1e999], "failures": {}, "cached": [], "calls": {}}'  # noqa: E731
    scores = score_objects(DistributedReward(here(SQUARE), lambda: Fake(spoil)), [1.0, 2.0])
    assert {*scores.failures} == {0, 1} and all(map(math.isnan, scores.values))


def test_an_executor_that_breaks_always_ends_the_run() -> None:
    def broken(number: int, items: list[Any]) -> Any:
        raise BrokenExecutor("no memory")

    reward = DistributedReward(here(SQUARE), lambda: Fake(broken), chunk_size=1, retries=100)
    with pytest.raises(GraftError, match=r"times in a row \(no memory\)"):
        reward([1.0])


class Silent(Fake):
    """Answers the check before a run, and no chunk with objects."""

    def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        return Future() if args[1] else super().submit(function, *args, **kwargs)


def test_a_cluster_without_workers_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_scoring, "GRACE", 0.5)
    reward = DistributedReward(here(SQUARE), Silent, timeout=0.5)
    reward.setup()
    with pytest.raises(GraftError, match=r"no worker of Silent has answered for 1 s: start workers and resume the run"):
        reward([1.0])
    reward.teardown()


def test_an_executor_that_takes_nothing_is_refused_at_the_start() -> None:
    class Gone(Fake):
        def submit(self, function: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
            raise RuntimeError("cannot schedule new futures")

    reward = DistributedReward(here(SQUARE), Gone)
    with pytest.raises(GraftError, match="cannot schedule new futures"):
        reward.setup()
    assert reward._handle._open is None


class Unset(Reward):
    def setup(self) -> None:
        raise GraftError("the program vina is not installed")

    def score(self, item: Any) -> float:
        return 1.0


def test_what_cannot_work_is_refused_at_the_start() -> None:
    for reward, words in [
        (DistributedReward(lambda x: 1.0, Fake), "cannot be sent to other processes"),
        (DistributedReward(SQUARE, "nowhere.Executor"), "nowhere.Executor"),
        (DistributedReward(SQUARE, THREADS, {"no_such": 1}), "cannot be opened"),
        (DistributedReward(SQUARE, "builtins.dict"), "returns dict"),
        (DistributedReward(Unset(), Fake), "the program vina is not installed"),
        (DistributedReward(SQUARE, lambda: Fake(lambda *_: None)), ""),
    ]:
        if not words:
            reward.setup()
            continue
        with pytest.raises(GraftError, match=words):
            reward.setup()
        assert reward._handle._open is None
    for settings in ({"chunk_size": 0}, {"timeout": 0}, {"retries": -1}):
        with pytest.raises(GraftError, match=next(iter(settings))):
            DistributedReward(SQUARE, **settings)
    assert json.loads(score_chunk(b"", [], "", None, ""))["refused"]


def test_an_object_that_no_process_can_get_fails_alone() -> None:
    scores = score_objects(DistributedReward(here(SQUARE), Fake), [2.0, lambda: None, 3.0])
    assert scores.values[0] == 4 and scores.values[2] == 9 and "pickled" in scores.failures[1]
    assert scores.calls == {"square": 2}


def test_within_and_around_other_rewards() -> None:
    """Terms are counted apart, a cache in front asks once, and the workers do not change the identity."""
    total = WeightedSum([here(SQUARE), here("callables.slow")], [1.0, 2.0])
    reward = DistributedReward(total, Fake, chunk_size=2)
    scores = score_objects(reward, [1.0, 2.0, 3.0])
    assert scores.values == [3, 8, 15] and scores.calls == {"square": 3, "slow": 3}
    cached = CachedReward(reward)
    assert score_objects(cached, [1.0, 1.0, 2.0]).calls == {"square": 2, "slow": 2}
    assert not score_objects(cached, [2.0, 1.0]).calls or score_objects(cached, [2.0]).reward_calls == 0
    assert reward.identity() == DistributedReward(total, THREADS, chunk_size=5).identity()


def test_threads_do_not_restore_the_settings_of_their_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAFT_TEST", raising=False)
    with shared(), isolated():
        os.environ["GRAFT_TEST"] = "kept"
    assert os.environ["GRAFT_TEST"] == "kept"
    with isolated():
        del os.environ["GRAFT_TEST"]
    assert os.environ["GRAFT_TEST"] == "kept"


def test_an_answer_is_numbers_and_texts() -> None:
    text = score_chunk(pickle.dumps(here(SQUARE)), [pickle.dumps(2.0), b"broken"], "", None, "")
    assert json.loads(text)["values"] == [4.0, None]
    scores = read_answer(text, 2)
    assert scores.values[0] == 4 and "imported" in scores.failures[1] and scores.calls == {"square": 1}
    with pytest.raises(ChunkFailed, match="3 objects"):
        read_answer(text, 3)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Dask's own
def test_a_dask_cluster_with_a_killed_worker(tmp_path: Path) -> None:
    dask = pytest.importorskip("distributed", reason="Dask is not installed")
    with dask.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        options = {"address": cluster.scheduler_address}
        reward = DistributedReward(
            here("callables.fatal_once"), "distributed.Client", options, chunk_size=2, timeout=300
        )
        reward.setup()
        items = [("", 0.0), (str(tmp_path / "died"), 1.0), ("", 2.0), ("", 3.0), ("", 4.0)]
        scores = score_objects(reward, items)
        assert scores.values == [0.5, 1.5, 2.5, 3.5, 4.5] and not scores.failures
        assert (tmp_path / "died").exists() and scores.calls == {"fatal_once": 5}
        reward.teardown()
        assert reward._handle._open is None and callables.fatal_once(("", 1.0)) == 1.5
        fatal = DistributedReward(here("callables.faulty"), "distributed.Client", options, 2, timeout=300, retries=0)
        with dask.Client(cluster.scheduler_address) as client:
            client.wait_for_workers(2, timeout=300)  # the nanny has started the killed one again
            client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
        scores = score_objects(fatal, [("work", 1.0), ("work", 2.0), ("kill", 3.0)])
        fatal.teardown()
        assert scores.values[:2] == [1.5, 2.5] and [*scores.failures] == [2] and scores.calls == {"faulty": 3}
        assert "Killed" in scores.failures[2] or "died" in scores.failures[2]
