"""Identities, files that are filled in place, and the choice of what a costly reward is scored for."""

import importlib
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from graft import GraftError
from graft.core.datatypes import Chunk
from graft.io.fingerprint import fingerprint, fingerprint_hash
from graft.io.mapped import mapped_writer
from graft.io.tensors import read_tensors
from graft.process import Gaussian, LinearSchedule, PolynomialSchedule
from graft.rounds import RolloutCache, RoundStore
from graft.rounds.budget_selection import equal_shares, proxy_information, top_per_group
from graft.sampler import level_grid


class Net(nn.Module):
    def __init__(self, width: int = 4, reach: float = 1.0) -> None:
        super().__init__()
        self.reach = reach
        self.inner = nn.Linear(width, width)


def test_identity_says_what_differs_and_nothing_else() -> None:
    assert fingerprint_hash(Gaussian(PolynomialSchedule(), "x0", [2])) == fingerprint_hash(
        Gaussian(PolynomialSchedule(), "x0", [2])
    )
    others = [
        Gaussian(PolynomialSchedule(), "x0", [3]),
        Gaussian(PolynomialSchedule(), "v", [2]),
        Gaussian(LinearSchedule(), "x0", [2]),
        Gaussian(PolynomialSchedule(), "x0", [2], eta=0.5),
        Gaussian(PolynomialSchedule(), "x0", [2], warp=2),
    ]
    assert len({fingerprint_hash(p) for p in (Gaussian(PolynomialSchedule(), "x0", [2]), *others)}) == len(others) + 1
    assert fingerprint_hash(Net()) == fingerprint_hash(Net().eval())  # weights have a hash of their own
    assert fingerprint_hash(Net()) != fingerprint_hash(Net(reach=2.0))
    assert fingerprint_hash({"a": 1, "b": [2]}) == fingerprint_hash({"b": [2], "a": 1})
    assert fingerprint_hash(torch.zeros(2)) != fingerprint_hash(torch.zeros(3))


def test_identity_of_a_function_is_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A function that was edited is another one."""
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for name, body in (("one", "return 1.0"), ("two", "return 1.0"), ("three", "return 2.0")):
        (tmp_path / f"{name}.py").write_text(f"def score(x):\n    {body}\n")
        found.append(fingerprint(importlib.import_module(name).score))
    assert found[0]["file"] == found[1]["file"] != found[2]["file"] and found[0]["name"] == "one.score"


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16])
def test_file_filled_in_place(kind: torch.dtype, tmp_path: Path) -> None:
    whole = {"a": torch.arange(14).reshape(7, 2).to(kind), "b": torch.arange(7, dtype=torch.float64)}
    with mapped_writer(tmp_path / "f.safetensors", 7, {"x": 1}) as mapped:
        into = mapped({name: tensor[:3] for name, tensor in whole.items()})
        for rows in (slice(4, 7), slice(0, 4)):
            for name, tensor in whole.items():
                into[name][rows] = tensor[rows]
    tensors, about = read_tensors(tmp_path / "f.safetensors")
    assert about == {"x": 1} and all(torch.equal(tensors[name], whole[name]) for name in whole)


def a_round(folder: Path, chunks: int = 3, seed: int = 0) -> tuple[RoundStore, Tensor]:
    rows = [5] * (chunks - 1) + [2]
    store = RoundStore(folder, {"seed": seed, "round": 0, "steps": 2}, rows, "reward")
    x = torch.randn(sum(rows), 2, generator=torch.Generator().manual_seed(seed))
    for i, count in enumerate(rows):
        part = x[5 * i : 5 * i + count]
        store.write_chunk(i, Chunk(part, {0.5: part + 1}, {"n": torch.arange(5 * i, 5 * i + count)}))
    return store, x


def test_gathered_draws(tmp_path: Path) -> None:
    store, x = a_round(tmp_path / "rounds/0")
    index = torch.tensor([0, 3, 4, 5, 11])
    store.write_subset("g.safetensors", index, [0.5])
    chunk = store.read_subset("g.safetensors")
    assert torch.equal(chunk.recorded[0.5], x[index] + 1) and torch.equal(chunk.state, x[index])
    assert torch.equal(chunk.condition["n"], index)


@pytest.mark.parametrize("steps", [1, 6, 7, 49])
def test_recorded_levels_are_steps_of_the_grid(steps: int, tmp_path: Path) -> None:
    """A level comes back as the same float, from a name without one."""
    grid = level_grid(steps)[:-1]
    store = RoundStore(tmp_path, {"steps": steps}, [2])
    recorded = {level: torch.full((2, 1), level) for level in grid}
    store.write_chunk(0, Chunk(torch.zeros(2, 1), recorded, {"n": torch.arange(2)}))
    names = read_tensors(tmp_path / "chunk_00000.safetensors")[0].keys()
    assert names == {"state", "condition/n", *(f"step/{i}" for i in range(steps))}
    found = RoundStore(tmp_path, None, [2]).read_chunk(0).recorded
    assert list(found) == grid and all(torch.equal(found[level], recorded[level]) for level in grid)
    with pytest.raises(ValueError):
        store.write_chunk(0, Chunk(torch.zeros(2, 1), {0.123: torch.zeros(2, 1)}, {"n": torch.arange(2)}))


def test_store_finds_by_content(tmp_path: Path) -> None:
    ours, _ = a_round(tmp_path / "one/rounds/0")
    a_round(tmp_path / "two/rounds/0", seed=1)
    store = RolloutCache([tmp_path])
    assert len(store) == 6
    assert store.find(ours.cache_key(1)) == tmp_path / "one/rounds/0/chunk_00001.safetensors"
    assert store.find({**ours.cache_key(1), "chunk": 7}) is None  # of that distribution, but not among those
    with pytest.raises(GraftError, match="another seed"):
        store.find({**ours.cache_key(1), "seed": 2})


def test_top_per_group() -> None:
    """Each condition gives its share, for any values."""
    values = torch.cat([torch.arange(100.0), torch.arange(100.0) + 1000, torch.full((10,), torch.nan)]).double()
    groups = torch.cat([torch.zeros(100), torch.ones(110)]).long()
    chosen = top_per_group(values, groups, 50)
    assert int(chosen.sum()) == 50 and abs(int(chosen[:100].sum()) - 25) <= 2
    assert bool(chosen[99]) and bool(chosen[199]) and not bool(chosen[200:].any()) and not bool(chosen[0])
    assert int(top_per_group(values, groups, 210).sum()) == 200 and int(top_per_group(values, groups, 1).sum()) == 1


def test_a_budget_scores_a_random_subset() -> None:
    """The subset has the exact size, each condition its share rounded up or down, and each draw an equal chance.

    Of 1500 seeds, 5 standard errors: one of 51 numbers by chance in 3e-5 of all.
    """
    groups = torch.repeat_interleave(torch.arange(6), torch.tensor([1, 1, 2, 5, 12, 30]))
    sizes, most, count = torch.bincount(groups).double(), 20, torch.zeros(51)
    together = 0
    for seed in range(1500):
        chosen = equal_shares(groups, most, torch.Generator().manual_seed(seed))
        assert int(chosen.sum()) == most
        assert ((torch.bincount(groups[chosen], minlength=6) - sizes * most / 51).abs() < 1).all()
        count += chosen
        together += int(chosen[0] & chosen[-1])
    p = most / 51
    assert ((count / 1500 - p).abs() < 5 * (p * (1 - p) / 1500) ** 0.5).all()
    assert 0.1 < together / 1500 < 0.2  # p² = 0.154: not in the order in which they were drawn
    assert bool(equal_shares(groups, 51, None).all()) and not bool(equal_shares(groups, 0, None).any())
    alike = [equal_shares(groups, most, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*alike)


def test_proxy_conditions_have_their_share() -> None:
    """300 of 200 prompts with 4 draws each: chance decides which prompts have two, for any proxy."""
    groups = torch.arange(200).repeat_interleave(4)
    values = torch.rand(800, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + groups
    twice = torch.zeros(200)
    for seed in range(20):
        chosen = top_per_group(values, groups, 300, torch.Generator().manual_seed(seed))
        number = torch.bincount(groups[chosen], minlength=200)
        assert int(number.sum()) == 300 and set(number.tolist()) == {1, 2}
        assert bool(chosen[values.reshape(200, 4).argmax(1) + 4 * torch.arange(200)].all())
        twice += number == 2
    assert twice.min() > 0 and twice.max() < 20  # 10 of 20 each: 0 or 20 by chance in 4e-4 of all
    assert abs(float(twice[:100].sum()) - 1000) < 100
    # equal values are drawn for
    same = [top_per_group(torch.zeros(800).double(), groups, 200, torch.Generator().manual_seed(s)) for s in range(2)]
    assert not torch.equal(*same)


def test_kl_of_a_proxy() -> None:
    """The rule ranks the draws that the proxy passes, and the choice of the proxy is a part of the acceptance.

    By a proxy that says nothing of the reward: the best 2 of 4 by it, then the better of these by the reward, so that
    log a is the sum of both. By the reward itself it is the best of 4, to 0.07: the CDFs are not independent then.
    """
    from graft.accept import TopK

    groups = torch.arange(500).repeat_interleave(4)
    reward = torch.rand(2000, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    proxy = torch.where(groups % 2 == 0, reward, -reward)  # as often right as wrong
    f = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    a = (3 * f**2 - 2 * f**3) * 2  # of uniform F: the best 2 of 4, 1 on average
    right = float((a * a.log()).mean()) + math.log(2) - 1 / 2
    for values, nats, within in ((proxy, right, 2e-3), (reward, math.log(4) - 3 / 4, 0.07)):
        chosen = top_per_group(values, groups, 1000)
        known = proxy_information(values, groups, chosen)
        scored = torch.where(chosen, reward, torch.nan)
        found = TopK(1, 2)(
            scored, groups, None, torch.Generator().manual_seed(3), scored=chosen, proxy_log_acceptance=known
        )
        assert found.kl_nats == pytest.approx(nats, abs=within)
    # in one large group the proxy's share, log 4, is all there is to it
    chosen = top_per_group(proxy, 0 * groups, 500)
    known = proxy_information(proxy, 0 * groups, chosen)
    scored = torch.where(chosen, reward, torch.nan)
    found = TopK(1, 2)(
        scored, 0 * groups, None, torch.Generator().manual_seed(3), scored=chosen, proxy_log_acceptance=known
    )
    assert found.kl_nats == pytest.approx(math.log(4) + math.log(2) - 1 / 2, abs=0.06)
