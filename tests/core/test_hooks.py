"""A hook of a domain that fails is named in one sentence, before the first round where it always does."""

import csv
from pathlib import Path
from typing import Any

import plane
import pytest
import torch
from torchmetrics import Metric

import graft
from graft import GraftError, cli
from graft.filters import Novelty, Similarity
from graft.report.hits import TopSample, hit_columns, hits_csv

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's


class Kept(Metric):
    """Computes given values of the objects."""

    def __init__(self, compute: Any = len, update: Any = None) -> None:
        super().__init__()
        self.items: list[Any] = []
        self.how, self.seen = compute, update

    def update(self, items: Any) -> None:
        if self.seen is not None:
            self.seen(items)
        self.items += items

    def compute(self) -> Any:
        return self.how(self.items)

    def reset(self) -> None:
        super().reset()
        self.items = []


def wrong(*_: Any, **__: Any) -> Any:
    raise KeyError("no such atom")


def few(items: list[Any]) -> float:
    """Like metrics that need enough samples."""
    if len(items) < 12:
        raise ValueError("at least 12 samples")
    return float(len(items))


WRONG: dict[str, Any] = {
    "sample_conditions": wrong,
    "decode": wrong,
    "group": wrong,
    "key": wrong,
    "features": wrong,
    "in_training_set": wrong,
    "metrics": wrong,
    "render": wrong,
    "render_html": wrong,
    "write": wrong,
    "decode: few": ("decode", lambda self, state, condition: [(0.0, 0.0)]),
    "decode: tensor": ("decode", lambda self, state, condition: state),
    "group: floats": ("group", lambda self, condition: torch.zeros(len(condition["row"]))),
    "group: list": ("group", lambda self, condition: [0] * len(condition["row"])),
    "key: number": ("key", lambda self, item: 3),
    "features: one": ("features", lambda self, items: torch.zeros(len(items))),
    "features: few": ("features", lambda self, items: torch.zeros(1, 3)),
    "in_training_set: list": ("in_training_set", lambda self, keys: [False] * len(keys)),
    "metrics: list": ("metrics", lambda self: [Kept()]),
    "metrics: numbers": ("metrics", lambda self: {"a": 1.0}),
    "metrics()['a'].update": ("metrics", lambda self: {"a": Kept(update=wrong)}),
    "metrics()['a'].compute": ("metrics", lambda self: {"a": Kept(wrong)}),
    "metrics()['a'].compute: text": ("metrics", lambda self: {"a": Kept(lambda items: "many")}),
    "metrics()['a'].compute: vector": ("metrics", lambda self: {"a": Kept(lambda items: torch.zeros(3))}),
    "render: text": ("render", lambda self, items, legends=None: "png"),
    "write: two arguments": ("write", lambda self, items, path: path.write_text("")),
    "write: nothing": ("write", lambda self, items, path, rewards=None: None),
    "write: exits": ("write", lambda self, items, path, rewards=None: exit(3)),
    "write: whole numbers": ("write", lambda self, items, path, rewards=None: [int(reward) for reward in rewards]),
}


class Whole(plane.Plane):
    """A domain with all hooks, which refuse calls without objects."""

    def key(self, item: Any) -> str:
        return f"{item[0]:.6f}"

    def in_training_set(self, keys: Any) -> torch.Tensor:
        assert len(keys), "called with nothing"
        return torch.zeros(len(keys), dtype=torch.bool)

    def features(self, items: Any) -> torch.Tensor:
        assert len(items), "called with nothing"
        return torch.tensor(items)

    def metrics(self) -> Any:
        return {
            "n": Kept(few, update=lambda items: items[0]),
            "parts": Kept(lambda items: {"a": 1, "b": torch.ones(1)}),
        }


@pytest.mark.parametrize("name", WRONG)
def test_named_before_the_first_round(name: str, tmp_path: Path) -> None:
    hook, function = WRONG[name] if isinstance(WRONG[name], tuple) else (name, WRONG[name])
    broken = type("Broken", (Whole,), {hook: function})
    called: list[Any] = []
    data = plane.data(called.append, filters=[Novelty()])
    with pytest.raises(GraftError) as caught:
        graft.fit(plane.made(tmp_path, broken), data, tmp_path / "run", plane.trainer())
    message = str(caught.value)
    assert f"Broken.{name.partition(':')[0]}" in message and "\n" not in message and not called
    assert not list((tmp_path / "run").glob("rounds/*/chunk*"))
    if "KeyError" in message:
        assert (
            isinstance(caught.value.__cause__, KeyError) and "no such atom" in message and "GRAFT_TRACEBACK" in message
        )


def test_hooks_are_never_called_with_nothing(tmp_path: Path) -> None:
    """A metric that needs more samples is not refused."""
    data = plane.data(lambda p: p[0], filters=[Novelty(), Similarity(0.99)])
    summary = graft.fit(plane.made(tmp_path, Whole), data, tmp_path / "run", plane.trainer(2))
    assert summary["tuned"]["n"] == 32 and summary["tuned"]["parts"] == {"a": 1, "b": 1}
    keyed = type("Keyed", (plane.Plane,), {"key": Whole.key})
    knowing = type("Knowing", (keyed,), {"in_training_set": Whole.in_training_set})
    for kind, each, why in (
        (plane.Plane, Novelty(), "has no key"),
        (keyed, Novelty(), "does not know its training data"),
        (knowing, Similarity(), "has no features"),
    ):
        with pytest.raises(GraftError, match=why):
            data = plane.data(lambda p: p[0], filters=[each])
            graft.fit(plane.made(tmp_path, kind), data, tmp_path / why, plane.trainer())


def test_what_fails_late_is_named_and_loses_nothing(tmp_path: Path) -> None:
    """A hook fails for one object of the comparison, after training: the weights are written."""

    class Late(plane.Plane):
        def write(self, items: Any, path: Path, rewards: Any = None) -> None:
            if len(items) > 30:
                raise ZeroDivisionError
            super().write(items, path, rewards)

    with pytest.raises(GraftError, match=r"Late\.write failed \(ZeroDivisionError\)"):
        graft.fit(plane.made(tmp_path, Late), plane.data(lambda p: p[0]), tmp_path / "run", plane.trainer())
    assert (tmp_path / "run/tuned.safetensors").exists() and (tmp_path / "run/checkpoints/last.ckpt").exists()


def test_the_file_system_speaks_for_itself(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        plane.made(tmp_path).write([[1.0, 2.0]], tmp_path / "no/such/folder.csv")


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_hits_of_a_domain_that_writes_csv(tmp_path: Path) -> None:
    """Each line has its object, whatever the format of the domain's own file."""

    class Headed(plane.Plane):
        def write(self, items: Any, path: Path, rewards: Any = None) -> None:
            rows = [f'{x},"{y}, or so",{reward}' for (x, y), reward in zip(items, rewards, strict=True)]
            path.write_text("\n".join(["x,y,reward", *rows]))

    class Blocks(plane.Plane):
        def write(self, items: Any, path: Path, rewards: Any = None) -> None:
            path.write_text("a,b\n\n" * 3 * len(items))

    class Other(plane.Plane):
        file_suffix = ".txt"

    hits = [TopSample([1.5, 2.0], 3.0, "k", "samples", 1), TopSample([-1.0, 0.5], 2.0, "", "round 1", 2)]
    found = lines(hits_csv(hits, hit_columns(plane.made(tmp_path), hits)))
    assert [(row["rank"], row["reward"], row["object_1"], row["object_2"]) for row in found] == [
        ("1", "3.0", "1.5", "2.0"), ("2", "2.0", "-1.0", "0.5")]  # fmt: skip
    headed = lines(hits_csv(hits, hit_columns(plane.made(tmp_path, Headed), hits)))
    assert [(row["x"], row["y"], row["reward"]) for row in headed] == [
        ("1.5", "2.0, or so", "3.0"), ("-1.0", "0.5, or so", "2.0")]  # fmt: skip
    assert lines(hits_csv(hits, hit_columns(plane.made(tmp_path, Blocks), hits)))[1]["object"] == "[-1.0, 0.5]"
    assert hit_columns(plane.made(tmp_path, Other), hits) == {} and hit_columns(plane.made(tmp_path), []) == {}
    graft.fit(plane.made(tmp_path), plane.data(lambda p: p[0]), tmp_path / "run", plane.trainer())
    rows = lines((tmp_path / "run/hits.csv").read_text())
    assert len(rows) == 64 and all(float(row["object_1"]) == pytest.approx(float(row["reward"])) for row in rows)


def test_public_names() -> None:
    assert {*graft.__all__, "__version__"} <= {*dir(graft)} and all(hasattr(graft, name) for name in dir(graft))
