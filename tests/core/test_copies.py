"""Rewards, metrics and hooks get copies: one that edits its object in place changes nothing that others see."""

import math
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import plane
import pytest
import torch
from PIL import Image
from rdkit import Chem
from torchmetrics import Metric

import graft
from domains.images.rewards.base import PictureReward, TensorReward
from domains.molecules.rewards import DesirabilityWindow, Gated
from graft import GraftModule, cli
from graft.core.copies import copied, copies
from graft.reward import BatchReward, CachedReward, FunctionReward, Reward, Scores, WeightedSum, score_objects

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's

Point = namedtuple("Point", "x tags")


class Holder:
    """An object with a part that nothing can copy."""

    def __init__(self) -> None:
        self.lock, self.values = threading.Lock(), [1.0]


class Slotted:
    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values = [1.0]


def test_kinds_of_objects() -> None:
    mol = Chem.MolFromMolBlock(Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")))
    mol.SetProp("name", "ethanol")
    other = copied(mol)
    other.GetConformer().SetAtomPosition(0, (9.0, 9.0, 9.0))
    other.SetProp("name", "x")
    other.GetAtomWithIdx(0).SetAtomicNum(7)
    assert mol.GetProp("name") == "ethanol" and mol.GetConformer().GetAtomPosition(0).x != 9
    assert Chem.MolToSmiles(mol) == "CCO" and Chem.MolToSmiles(other) == "NCO"
    for mode in ("L", "RGB", "RGBA", "P", "1", "I;16", "F"):
        image = Image.new(mode, (8, 6))
        image.info["tags"], image.label = ["a"], 3
        twin = copied(image)
        assert (twin.mode, twin.size, twin.info, twin.label) == (mode, (8, 6), {"tags": ["a"]}, 3)
        twin.info["tags"].append("b")
        twin.putpixel((0, 0), 1 if mode not in ("RGB", "RGBA") else (1,) * len(mode))
        twin.paste(twin.crop((0, 0, 1, 1)), (1, 0))
        assert image.info == {"tags": ["a"]} and image.tobytes() == bytes(len(image.tobytes())) != twin.tobytes()
    leaf = torch.ones(2, requires_grad=True)
    for tensor in (torch.ones(2), leaf, leaf * 1):
        copied(tensor).mul_(0)
        assert tensor.tolist() == [1, 1]
    nested = Point(1.0, [{"a": (leaf * 1, [2])}])
    inner = copied(nested)
    inner.tags[0]["a"][1].append(3)
    assert nested.tags[0]["a"][1] == [2] and type(inner) is Point
    for made in (Holder, Slotted):
        item = made()
        copied(item).values.append(2.0)
        copied([item])[0].values.append(2.0)
        assert item.values == [1.0]
    same = [1.0]
    first, second = copies([same, same])
    first.append(2.0)
    assert second == same == [1.0]
    assert copied(3) == 3 and copied("a") == "a" and copied((1.0, 2.0)) == (1.0, 2.0) and copied(None) is None


class Node(Holder):
    """A node of a tree, which nothing can copy whole and which knows its parent."""

    def __init__(self, parent: "Node | None" = None, depth: int = 0) -> None:
        super().__init__()
        self.parent = parent
        self.children = [Node(self, depth + 1) for _ in range(3)] if depth < 3 else []


def test_objects_that_refer_to_each_other_are_copied_once() -> None:
    tree = Node()
    twin = copied(tree)
    child = twin.children[1]
    assert child.parent is twin and child.children[2].parent is child
    child.values.append(2.0)
    assert tree.children[1].values == [1.0] and tree.children[1].parent is tree
    cycle: list[Any] = [threading.Lock()]
    cycle.append({"self": cycle})
    other = copied(cycle)
    assert other is not cycle and other[1]["self"] is other


def test_message_names_an_object_that_cannot_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    class Stuck:
        __slots__ = ("lock",)

        def __init__(self) -> None:
            self.lock = threading.Lock()

    item = Stuck()
    assert copied(item) is item and copied(Stuck()) is not None
    assert capsys.readouterr().out.count("Stuck cannot be copied") == 1


class Shrinks(Reward):
    """A reward that removes the last number, and fails if there is none."""

    name, calls = "shrinks", 0

    def score(self, item: Any) -> float:
        self.calls += 1
        return float(item.pop())


class Sums(BatchReward):
    name = "sums"

    def __call__(self, items: Any) -> Scores:
        values = [float(sum(item)) for item in items]
        for item in items:
            item.clear()
        return Scores(values)


shrinks = lambda item: float(item.pop())  # noqa: E731  (in this process, where it can do harm)


def cleared(items: list[list[float]]) -> list[float]:
    """Edits all, then fails for a batch with a negative number."""
    values = [sum(item) for item in items]
    for item in items:
        item.clear()
    if min(values) < 0:
        raise ValueError("negative")
    return values


ITEMS = [[1.0, 2.0], [3.0, 4.0]]
REWARDS: dict[str, tuple[Any, list[float]]] = {
    "own": (Shrinks, [2, 4]),
    "batched": (Sums, [3, 7]),
    "function": (lambda: FunctionReward(shrinks, timeout=None), [2, 4]),
    "weighted": (lambda: WeightedSum([Shrinks(), Sums(), shrinks, Shrinks()], [1, 1, 1, 1]), [9, 19]),
    "nested": (
        lambda: WeightedSum([WeightedSum([Shrinks(), Shrinks()], [1, 1]), CachedReward(Sums())], [1, 1]),
        [7, 15],
    ),
    "cached": (lambda: CachedReward(shrinks, key="test_copies.popped"), [2, 4]),
    "window": (
        lambda: WeightedSum([DesirabilityWindow(shrinks, low=3), DesirabilityWindow(Sums(), low=5)], [1, 1]),
        [0, 2],
    ),
}


def popped(item: list[float]) -> float:
    return item.pop()


@pytest.mark.parametrize("name", REWARDS)
def test_rewards(name: str) -> None:
    make, right = REWARDS[name]
    reward, items = make(), copies(ITEMS)
    for _ in range(2):
        assert score_objects(reward, items).values == right and items == ITEMS


def test_single_objects() -> None:
    for reward, right in ((WeightedSum([Shrinks(), Shrinks()], [1, 1]), 4), (DesirabilityWindow(Shrinks(), low=2), 1)):
        item = [1.0, 2.0]
        assert reward.score(item) == right


def test_batches_that_are_scored_again_are_as_they_were() -> None:
    items = [[1.0, 2.0], [-5.0], [3.0]]
    scores = score_objects(FunctionReward(cleared, timeout=None, batched=True), items)
    assert scores.values[0] == 3 and scores.values[2] == 3 and sorted(scores.failures) == [1]
    assert items == [[1.0, 2.0], [-5.0], [3.0]]

    class Clears(BatchReward):
        def __call__(self, items: Any) -> Scores:
            return Scores(cleared(items))

    scores = score_objects(Clears(), items)
    assert scores.values[0] == 3 and scores.values[2] == 3 and "negative" in scores.failures[1]

    class Thumb(TensorReward):
        def values(self, pixels: Any, images: Any) -> torch.Tensor:
            sizes = [image.size[0] for image in images]
            for image in images:
                image.thumbnail((2, 2))
            if len(images) > 1:
                raise RuntimeError("one at a time")
            return torch.tensor(sizes, dtype=torch.float32)

    pictures = [Image.new("L", (8, 8)), Image.new("L", (8, 8))]
    assert score_objects(Thumb(), pictures).values == [8, 8] and pictures[0].size == (8, 8)


def test_pictures_and_molecules() -> None:
    class Mine(PictureReward):
        def value(self, image: Any) -> float:
            image.thumbnail((4, 4))
            return float(image.size[0])

    pictures = [Image.new("L", (28, 28), 7)]
    assert score_objects(WeightedSum([Mine(), Mine()], [1, 1]), pictures).values == [8] and pictures[0].size == (28, 28)

    class Strips(Reward):
        def score(self, item: Any) -> float:
            count = item.GetNumAtoms()
            item.GetAtomWithIdx(0).SetAtomicNum(9)
            item.RemoveAllConformers()
            return float(count + item.GetNumConformers())

    mol = Chem.MolFromMolBlock(Chem.MolToMolBlock(Chem.MolFromSmiles("CCO")))
    gated = Gated(WeightedSum([Strips(), Strips()], [1, 1]), require=["connected"], fallback=0.0)
    assert score_objects(gated, [mol]).values == [6] and mol.GetNumConformers() == 1 and Chem.MolToSmiles(mol) == "CCO"
    assert gated.score(mol) == 6


WRONG = {"few": lambda items: Scores([1.0]), "list": lambda items: [1.0] * len(items), "none": lambda items: None}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_results_of_a_batch_end_in_a_sentence(wrong: Any) -> None:
    class Wrong(BatchReward):
        name = "wrong"

        def __call__(self, items: Any) -> Scores:
            return wrong(items)

    with pytest.raises(graft.GraftError, match="the reward wrong returned"):
        score_objects(Wrong(), [[1.0], [2.0]])


def test_values_that_are_not_finite_fail() -> None:
    class Loose(BatchReward):
        def __call__(self, items: Any) -> Scores:
            return Scores([1.0, math.nan, math.inf, "2", torch.tensor(3.0)])  # type: ignore[list-item]

    scores = score_objects(Loose(), [1, 2, 3, 4, 5])
    assert scores.values[0] == 1 and scores.values[4] == 3 and sorted(scores.failures) == [1, 2, 3]
    assert all(math.isnan(scores.values[i]) for i in (1, 2, 3)) and score_objects(Loose(), []).values == []


class Mean(Metric):
    """A reward that is the first coordinate, and removes it."""

    total: torch.Tensor
    count: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), "sum")
        self.add_state("count", torch.tensor(0), "sum")

    def update(self, items: Any) -> None:
        self.total += sum(item.pop(0) for item in items)
        self.count += len(items)

    def compute(self) -> Any:
        return self.total / self.count


class Careless(plane.Plane):
    """Every hook edits its objects in place."""

    def key(self, item: Any) -> str:
        return f"{item.pop():.9f} {item.pop():.9f}"

    def features(self, items: Any) -> torch.Tensor:
        return torch.tensor([[item.pop(), item.pop()] for item in items])

    def metrics(self) -> Any:
        return {"first": Mean(), "again": Mean()}

    def render(self, items: Any, legends: Any = None) -> bytes:
        assert all(len(item) == 2 for item in items)
        [item.clear() for item in items]
        return b"\x89PNG"

    def render_html(self, items: Any, legends: Any = None) -> str:
        [item.clear() for item in items]
        return ""

    def write(self, items: Any, path: Path, rewards: Any = None) -> None:
        path.write_text("".join(f"{item.pop()!r},{item.pop()!r}\n" for item in items))


def test_a_whole_run(tmp_path: Path) -> None:
    """Rewards and hooks that edit their objects do not change a run."""

    def last(item: Any) -> float:
        return float(item.pop())

    def plain(item: Any) -> float:
        return float(item[-1])

    found = {}
    for name, function in (("edits", last), ("looks", plain)):
        module = plane.made(tmp_path, Careless)
        data = plane.data(
            WeightedSum([function, function], [0.5, 0.5]), proxy_reward=function, held_out_reward=function
        )
        found[name] = graft.fit(module, data, tmp_path / name, plane.trainer(2))
        judged = module.evaluators["tuned"]
        assert all(len(item) == 2 for item in judged.items)
        rows = (tmp_path / name / "samples/tuned.csv").read_text().splitlines()
        assert [float(row.split(",")[0]) for row in rows] == pytest.approx(judged.rewards, abs=1e-6)
    for side in ("reference", "tuned"):
        assert found["edits"][side] == found["looks"][side]
        assert found["edits"][side]["first"] == found["edits"][side]["again"]
    assert found["edits"]["monitored"] == found["looks"]["monitored"] != []
    name = {"reward_calls_by_term": {"last": 16}}
    assert found["edits"]["rounds"] == [each | name for each in found["looks"]["rounds"]]


def test_hooks_of_a_mixin_and_of_a_subclass_are_guarded(tmp_path: Path) -> None:
    class Mixin:
        def key(self, item: Any) -> str:
            return str(item.pop())

    class Mixed(Mixin, plane.Plane):
        pass

    class Below(Careless):
        def key(self, item: Any) -> str:
            item.append(1.0)
            return super().key(item)

    for kind in (Mixed, Below):
        module, item = plane.made(tmp_path, kind), [1.0, 2.0]  # type: ignore[type-abstract]
        assert module.key(item) and item == [1.0, 2.0] and module.supports("key") and kind.key is not GraftModule.key
        module.write(items=[item], path=tmp_path / "x.csv")
        assert item == [1.0, 2.0]
