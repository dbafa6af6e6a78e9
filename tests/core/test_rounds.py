"""Identities, files that are filled in place, and the choice of what a costly reward is asked for."""

import importlib
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graft import GraftError, files
from graft.identity import digest, identity
from graft.process import Flow, Gaussian, Polynomial
from graft.rounds import Chunk, Round, Store
from graft.rounds.scoring import screened


class Net(nn.Module):
    def __init__(self, width: int = 4, reach: float = 1.0) -> None:
        super().__init__()
        self.reach = reach
        self.inner = nn.Linear(width, width)


def test_identity_says_what_differs_and_nothing_else() -> None:
    assert digest(Gaussian(Polynomial(), "x0", [2])) == digest(Gaussian(Polynomial(), "x0", [2]))
    others = [
        Gaussian(Polynomial(), "x0", [3]),
        Gaussian(Polynomial(), "v", [2]),
        Gaussian(Flow(), "x0", [2]),
        Gaussian(Polynomial(), "x0", [2], eta=0.5),
        Gaussian(Polynomial(), "x0", [2], warp=2),
    ]
    assert len({digest(p) for p in (Gaussian(Polynomial(), "x0", [2]), *others)}) == len(others) + 1
    assert digest(Net()) == digest(Net().eval())  # weights have a hash of their own
    assert digest(Net()) != digest(Net(reach=2.0))
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert digest(torch.zeros(2)) != digest(torch.zeros(3))


def test_identity_of_a_function_is_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that was edited is another one."""
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for name, body in (("one", "return 1.0"), ("two", "return 1.0"), ("three", "return 2.0")):
        (tmp_path / f"{name}.py").write_text(f"def score(x):\n    {body}\n")
        found.append(identity(importlib.import_module(name).score))
    assert found[0]["file"] == found[1]["file"] != found[2]["file"] and found[0]["name"] == "one.score"


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16])
def test_file_filled_in_place(kind: torch.dtype, tmp_path: Path) -> None:
    whole = {"a": torch.arange(14).reshape(7, 2).to(kind), "b": torch.arange(7, dtype=torch.float64)}
    with files.growing(tmp_path / "f.safetensors", 7, {"x": 1}) as mapped:
        into = mapped({name: tensor[:3] for name, tensor in whole.items()})
        for rows in (slice(4, 7), slice(0, 4)):
            for name, tensor in whole.items():
                into[name][rows] = tensor[rows]
    tensors, about = files.read_tensors(tmp_path / "f.safetensors")
    assert about == {"x": 1} and all(torch.equal(tensors[name], whole[name]) for name in whole)


def a_round(folder: Path, chunks: int = 3, seed: int = 0) -> tuple[Round, Tensor]:
    rows = [5] * (chunks - 1) + [2]
    store = Round(folder, {"seed": seed, "round": 0}, rows, "reward")
    x = torch.randn(sum(rows), 2, generator=torch.Generator().manual_seed(seed))
    for i, count in enumerate(rows):
        part = x[5 * i : 5 * i + count]
        store.write_chunk(i, Chunk(part, {0.5: part + 1}, {"n": torch.arange(5 * i, 5 * i + count)}))
    return store, x


def test_gathered_draws(tmp_path: Path) -> None:
    store, x = a_round(tmp_path / "rounds/0")
    index = torch.tensor([0, 3, 4, 5, 11])
    store.gather("g.safetensors", index, [0.5])
    chunk = store.gathered("g.safetensors")
    assert torch.equal(chunk.recorded[0.5], x[index] + 1) and torch.equal(chunk.state, x[index])
    assert torch.equal(chunk.condition["n"], index)


def test_store_finds_by_content(tmp_path: Path) -> None:
    ours, _ = a_round(tmp_path / "one/rounds/0")
    a_round(tmp_path / "two/rounds/0", seed=1)
    store = Store([tmp_path])
    assert len(store) == 6
    assert store.find(ours.origin(1)) == tmp_path / "one/rounds/0/chunk_00001.safetensors"
    assert store.find({**ours.origin(1), "chunk": 7}) is None  # of that law, but not among those
    with pytest.raises(GraftError, match="another seed"):
        store.find({**ours.origin(1), "seed": 2})


def test_screened() -> None:
    """Each condition gives its share, whatever the values are there."""
    values = torch.cat([torch.arange(100.0), torch.arange(100.0) + 1000, torch.full((10,), torch.nan)]).double()
    groups = torch.cat([torch.zeros(100), torch.ones(110)]).long()
    chosen = screened(values, groups, 50)
    assert int(chosen.sum()) == 50 and abs(int(chosen[:100].sum()) - 25) <= 2
    assert bool(chosen[99]) and bool(chosen[199]) and not bool(chosen[200:].any()) and not bool(chosen[0])
    assert int(screened(values, groups, 210).sum()) == 200 and int(screened(values, groups, 1).sum()) == 1
