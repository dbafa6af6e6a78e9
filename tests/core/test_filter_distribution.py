"""Filters: the distribution of the remaining keys in closed form, and the KL of the accepted draws after a filter."""

import math

import pytest
import torch
from exact import f64
from torch import Tensor

from graft.accept import AcceptAll, Threshold, TopFraction
from graft.errors import GraftError
from graft.filters import AcceptedHistory, Candidates, Filter, Memory, Novelty, Similarity, apply_filters
from graft.filters.similarity import cosine, tanimoto

SHARE = f64([0.5, 0.25, 0.15, 0.07, 0.03])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draws(rewards: list[float], keys: list[str], features: object = None, **more: object) -> Candidates:
    given = None if features is None else f64(features)
    return Candidates(f64(rewards), keys, torch.zeros(len(keys), dtype=torch.long), given, **more)


def past(keys: list[str], features: object = None) -> AcceptedHistory:
    return AcceptedHistory(keys, torch.zeros(len(keys), dtype=torch.long), None if features is None else f64(features))


def close(found: Tensor, expected: Tensor, spread: Tensor) -> None:
    """Within 4.5 standard errors: one of 30 numbers by chance in 2e-4 of seeds."""
    assert ((found - expected) / spread.clamp(min=1e-3)).abs().max() < 4.5


@pytest.mark.parametrize("times", [1, 2, 3])
def test_distribution_of_keys_over_rounds(times: int) -> None:
    """A key of probability p is accepted min(k, Binomial(R M, p)) times: with k = 1, with 1 − (1 − p)^(R M), once.

    (R rounds of M draws; a round with nothing left is an error, so there is a key that is new in every round.)
    """
    number, count, repeats, seed = 3, 4, 600, seeded(1)
    fresh = iter(range(10**9))
    total = torch.zeros(repeats, 5, dtype=torch.float64)
    for i in range(repeats):
        before: list[AcceptedHistory] = []
        for _ in range(number):
            drawn = torch.multinomial(SHARE, count, replacement=True, generator=seed)
            keys = [f"key {k}" for k in drawn.tolist()] + [f"new {next(fresh)}"]
            now = apply_filters([Memory(times)], draws([0.0] * len(keys), keys), before, seed)
            before.append(past([key for key, left in zip(keys, now.eligible.tolist(), strict=True) if left]))
        for k in range(5):
            total[i, k] = sum(list(r.keys).count(f"key {k}") for r in before)
    trials = number * count
    grid = torch.arange(trials + 1, dtype=torch.float64)
    choose = torch.tensor([math.comb(trials, k) for k in range(trials + 1)], dtype=torch.float64)
    distribution = choose * SHARE[:, None] ** grid * (1 - SHARE[:, None]) ** (trials - grid)
    capped = grid.clamp(max=times)
    mean = (distribution * capped).sum(1)
    assert total.max() == times
    close(total.mean(0), mean, ((distribution * capped**2).sum(1) - mean**2).clamp(min=0).sqrt() / repeats**0.5)
    if times == 1:
        assert torch.allclose(mean, 1 - (1 - SHARE) ** trials)


def test_window_forgets() -> None:
    """With a memory of one round, a key that was not just accepted is accepted: q / (1 + q) in the limit."""
    count, number, seed = 2, 4000, seeded(2)
    share, before, found = f64([0.3, 0.7]), [], torch.zeros(2, dtype=torch.float64)
    for r in range(number):
        drawn = torch.multinomial(share, count, replacement=True, generator=seed)
        keys = [f"key {k}" for k in drawn.tolist()] + [f"new {r}"]
        now = apply_filters([Memory(rounds=1)], draws([0.0] * len(keys), keys), before, seed)
        kept = [key for key, left in zip(keys, now.eligible.tolist(), strict=True) if left]
        before.append(past(kept))
        found += f64([kept.count("key 0"), kept.count("key 1")])
    q = 1 - (1 - share) ** count
    close(found / number, q / (1 + q), (q / number).sqrt())


def test_copies_are_alike() -> None:
    """The choice among the draws of a key is fair, so the distribution within a key stays the same."""
    counts, seed = torch.zeros(4, dtype=torch.float64), seeded(3)
    for _ in range(2000):
        now = apply_filters([Memory(2)], draws([3.0, 2.0, 1.0, 0.0], ["a"] * 4), [past(["a"])], seed)
        assert int(now.eligible.sum()) == 1 and torch.equal(now.interchangeable, ~now.eligible)
        counts += now.eligible
    close(counts / 2000, f64([0.25] * 4), f64((0.25 * 0.75 / 2000) ** 0.5))


def test_kl_of_a_memory() -> None:
    """The KL goes from the realised share of each draw to its probability of acceptance, with n copies."""
    keys = ["a"] * 6 + ["b"] * 3 + ["c"]
    now = apply_filters([Memory()], draws([0.0] * 10, keys), [past(["c"])], seeded())
    found = AcceptAll()(
        now.rewards, keys=keys, eligible=now.eligible, interchangeable=now.interchangeable, generator=seeded()
    )
    assert {keys[i] for i in found.index.tolist()} == {"a", "b"} and now.rejected_by == {"each key once": 8}
    copies = ((6, 9), (3, 9))  # of each key, of those that are not remembered
    right = sum(math.log(0.5 / (c / 10)) - (1 / c - 1 / n) / 2 for c, n in copies) / 2
    assert found.kl_nats == pytest.approx(right)
    # with nothing remembered it is de-duplication, and says the same of every rule
    rewards = [0.0] * 6 + [1.0] * 4
    now = apply_filters([Memory()], draws(rewards, keys), [], seeded(4))
    for rule, twice in ((Threshold(0.5), Threshold(0.5, deduplicate=True)), (AcceptAll(), AcceptAll(deduplicate=True))):
        ours = rule(
            now.rewards, keys=keys, eligible=now.eligible, interchangeable=now.interchangeable, generator=seeded()
        ).kl_nats
        assert ours == pytest.approx(twice(f64(rewards), keys=keys, generator=seeded()).kl_nats)
    # two of six places: each of the six copies has 1/3 of a place
    now = apply_filters([Memory(2)], draws([0.0] * 7, [*"aaaaaab"]), [], seeded())
    kl = AcceptAll()(
        now.rewards, keys=now.keys, eligible=now.eligible, interchangeable=now.interchangeable, generator=seeded()
    ).kl_nats
    right = 2 / 3 * (math.log((2 / 3) / (6 / 7)) - (1 / 6 - 1 / 7) / 2) + 1 / 3 * math.log((1 / 3) / (1 / 7))
    assert kl == pytest.approx(right)


def test_a_failed_copy_has_no_share() -> None:
    """A failed draw is never accepted, whatever its key: half of two draws of one key has log 2, not 0."""
    found = AcceptAll(deduplicate=True)(f64([math.nan, 1.0]), keys=["a", "a"], generator=seeded())
    assert found.kl_nats == pytest.approx(math.log(2))
    found = AcceptAll(deduplicate=True)(f64([math.nan, 1.0, 1.0]), keys=["a", "a", "a"], generator=seeded())
    assert found.kl_nats == pytest.approx(math.log(1.5))


def test_novelty_is_conditioning() -> None:
    """KL = −log P(new); the rule ranks the new draws."""
    known = torch.arange(100) % 4 == 0
    now = apply_filters(
        [Novelty()], draws([float(i) for i in range(100)], [str(i) for i in range(100)], known=known), []
    )
    assert now.rejected_by == {"not in the training data": 25} and not bool((now.eligible & known).any())
    found = AcceptAll()(now.rewards, eligible=now.eligible, interchangeable=now.interchangeable, generator=seeded())
    assert found.kl_nats == pytest.approx(-math.log(0.75))
    found = TopFraction(0.2)(
        now.rewards, eligible=now.eligible, interchangeable=now.interchangeable, generator=seeded()
    )
    assert found.index.tolist() == [i for i in range(78, 100) if i % 4 != 0][-15:]


POINTS = [[1.0, 0.0], [0.98, 0.2], [0.0, 1.0], [0.2, 0.98], [0.7, 0.7], [0.0, 0.0], [0.0, 0.0]]


def test_similarity_is_greedy_from_the_best() -> None:
    names = [str(i) for i in range(7)]
    now = apply_filters([Similarity(0.9)], draws([1.0, 2.0, 5.0, 4.0, 3.0, 0.0, 0.0], names, POINTS), [], seeded())
    assert now.eligible.tolist() == [False, True, True, False, True, True, True]  # nothing is like what has no features
    assert not bool(now.interchangeable.any())
    # what an earlier round accepted counts, in its window
    near = past(["x"], [[0.7, 0.71]])
    for window, left in ((None, False), (1, True), (2, False), (0, True)):
        rule = Similarity(0.9, rounds=window)
        now = apply_filters(
            [rule], draws([1.0, 2.0, 5.0, 4.0, 3.0, 0.0, 0.0], names, POINTS), [near, past([])], seeded()
        )
        assert bool(now.eligible[4]) == left
    # only draws of one condition are compared
    apart = Candidates(f64([1.0, 2.0]), ["a", "b"], torch.tensor([0, 1]), f64(POINTS[:2]))
    assert apply_filters([Similarity(0.9)], apart, [], seeded()).eligible.tolist() == [True, True]
    apart = Candidates(f64([1.0, 2.0]), ["a", "b"], torch.tensor([0, 1]), f64(POINTS[:2]))
    assert apply_filters([Similarity(0.9, group_by="global")], apart, [], seeded()).eligible.tolist() == [False, True]


def test_similarity_leaves_a_maximal_set_whatever_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two of those left are alike, and each that is refused is like a better one that is left."""
    features = torch.rand(300, 4, dtype=torch.float64, generator=seeded(5))
    rewards = torch.rand(300, dtype=torch.float64, generator=seeded(6))
    left = {}
    for block in (512, 7):
        monkeypatch.setattr("graft.filters.similarity.BLOCK", block)
        now = Candidates(rewards, [str(i) for i in range(300)], torch.zeros(300, dtype=torch.long), features)
        left[block] = apply_filters([Similarity(0.95)], now, [], seeded()).eligible
    assert torch.equal(left[512], left[7])
    kept = left[7]
    alike = tanimoto(features, features) > 0.95
    assert 20 < int(kept.sum()) < 280
    assert int(alike[kept][:, kept].sum()) == int(kept.sum())  # itself alone
    better = rewards[None] > rewards[:, None]
    assert bool((alike & better & kept)[~kept].any(1).all())


def test_similarity_of_equals() -> None:
    """Equal draws of one key and reward: one is left, and the KL knows that any of them could have been."""
    now = apply_filters(
        [Similarity(0.9)], draws([1.0, 1.0, 1.0, 2.0], ["a", "a", "a", "b"], [[1.0, 0]] * 3 + [[0, 1.0]]), []
    )
    assert int(now.eligible.sum()) == 2 and int(now.interchangeable.sum()) == 2
    found = AcceptAll()(
        now.rewards, keys=now.keys, eligible=now.eligible, interchangeable=now.interchangeable, generator=seeded()
    )
    p = f64([1 / 6, 1 / 6, 1 / 6, 1 / 2])
    assert found.kl_nats == pytest.approx(float((p * (4 * p).log()).sum()) - (1 / 3 - 1 / 4) / 4)


def test_measures() -> None:
    """Similarity of sets of bits: 2 of 4 in both, 2 of sqrt(3·3)."""
    a, b = f64([[1, 1, 1, 0]]), f64([[0, 1, 1, 1]])
    assert float(tanimoto(a, b)) == pytest.approx(2 / 4)
    assert float(cosine(a, b)) == pytest.approx(2 / 3)
    assert float(tanimoto(a, 2 * a)) == pytest.approx(6 / (3 + 12 - 6)) and float(cosine(a, 2 * a)) == pytest.approx(1)
    assert float(tanimoto(a, 0 * a)) == float(tanimoto(0 * a, 0 * a)) == float(cosine(0 * a, a)) == 0


def test_filters_follow_one_another() -> None:
    """Each sees what the one before left; what has no key is never remembered; failures are no candidates."""
    now = draws([math.nan, 1.0, 2.0, 3.0, 4.0], ["a", "a", "b", "", ""], known=f64([1, 0, 1, 0, 0]) > 0)
    apply_filters([Novelty(), Memory()], now, [past(["a", "", ""])], seeded())
    assert now.eligible.tolist() == [False, False, False, True, True]
    assert now.rejected_by == {"not in the training data": 1, "each key once": 1}


@pytest.mark.parametrize(
    ("rule", "message"),
    [(Memory(), "each key once"), (Novelty(), "training data"), (Similarity(), "tanimoto similarity at most 0.9")],
)
def test_nothing_left(rule: Filter, message: str) -> None:
    now = draws([1.0, math.nan], ["a", "b"], [[1.0], [2.0]], known=torch.tensor([True, True]))
    with pytest.raises(
        GraftError, match=f"'.*{message}.*' rejects all 1 candidates that are left of 2 draws: .*draw more"
    ):
        apply_filters([rule], now, [past(["a"], [[1.0]])], seeded())


def test_bad_settings() -> None:
    for wrong in (
        lambda: Memory(0),
        lambda: Memory(rounds=0),
        lambda: Similarity(1.0),
        lambda: Similarity(-0.1),
        lambda: Similarity(rounds=-1),
    ):
        with pytest.raises(GraftError, match=r"(bucket_size|rounds|threshold) is"):
            wrong()
