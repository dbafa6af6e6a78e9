"""Acceptance rules: accepted draws have the distribution a(F), ties and failures included, and the stated KL is its KL.

Accepted draws of one group are dependent, so a test of their distribution takes one random accepted draw of each of
many groups.
"""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from exact import f64
from scipy.stats import beta
from torch import Tensor

from graft.accept import AcceptAll, AcceptanceRule, ExponentialTilt, Preference, Selection, Threshold, TopFraction, TopK
from graft.errors import GraftError

GROUPS, M = 1200, 8
Distribution = Callable[[Tensor], Tensor]  # CDF of the accepted F


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def best(keep: float, draws: int) -> Distribution:
    """The best K of M are the M-th, (M−1)-th, … order statistics; of a broken K the last counts in part."""
    shares = [min(1.0, keep - k) for k in range(math.ceil(keep))]

    def cdf(f: Tensor) -> Tensor:
        return sum(s * torch.from_numpy(beta(draws - k, k + 1).cdf(f.numpy())) for k, s in enumerate(shares)) / keep

    return cdf


RULES: dict[str, tuple[AcceptanceRule, Distribution]] = {
    "top 1 of 8": (TopK(1, 8), best(1, 8)),
    "top 3 of 8": (TopK(3, 8), best(3, 8)),
    "top 1 of 4, of 8": (TopK(1, 4), best(1, 4)),
    "top quarter": (TopFraction(0.25, min_group_size=1), best(2, 8)),
    "top 0.3": (TopFraction(0.3, min_group_size=1), best(2.4, 8)),
    "preference": (Preference(min_group_size=1), best(1, 2)),
    "threshold": (Threshold(0.7), lambda f: ((f - 0.7) / 0.3).clamp(0, 1)),
    "tilt": (ExponentialTilt(0.4, 1.0, min_group_size=1), lambda f: torch.expm1(f / 0.4) / math.expm1(1 / 0.4)),
    "all": (AcceptAll(min_group_size=1), lambda f: f),
}


def one_of_each(taken: Selection, groups: Tensor, generator: torch.Generator) -> Tensor:
    """Positions of one random accepted draw of each group that has one."""
    mixed = taken.index[torch.randperm(len(taken.index), generator=generator)]
    last = torch.full((int(groups.max()) + 1,), -1)
    last[groups[mixed]] = mixed
    return last[last >= 0]


def independent(name: str, rewards: Tensor, groups: Tensor, generator: torch.Generator) -> Tensor:
    """Accepted draws of different groups.

    A tilt accepts more where rewards are high, so that one of the accepted draws has another distribution. The test
    takes the first draw of each group there, if it was accepted.
    """
    taken = RULES[name][0](rewards, groups, generator=generator)
    if name == "tilt":
        first = torch.zeros(len(rewards), dtype=torch.bool)
        first[::M] = True
        return taken.index[first[taken.index]]
    return one_of_each(taken, groups, generator)


@pytest.mark.parametrize("name", RULES)
def test_distribution_of_continuous_rewards(name: str) -> None:
    """Uniform rewards are their own F. Kolmogorov-Smirnov at 1.95: 0.1 % of seeds fail each of 9 by chance."""
    seed = seeded(1)
    rewards = torch.rand(GROUPS * M, dtype=torch.float64, generator=seed)
    groups = torch.arange(GROUPS).repeat_interleave(M)
    f = rewards[independent(name, rewards, groups, seed)].sort().values
    n = len(f)
    assert n > 400
    cdf, ranks = RULES[name][1](f), torch.arange(n + 1, dtype=torch.float64) / n
    assert n**0.5 * float(torch.maximum((ranks[1:] - cdf).max(), (cdf - ranks[:-1]).max())) < 1.95


@pytest.mark.parametrize("shares", [[0.6, 0.4], [0.1, 0.4, 0.3, 0.2]], ids=["yes or no", "counts"])
@pytest.mark.parametrize("name", [name for name in RULES if name not in ("threshold", "tilt")])
def test_distribution_of_tied_rewards(name: str, shares: list[float]) -> None:
    """a(F) averaged over the tied interval: a value's accepted share is the CDF's rise over it.

    Chi-square: by chance in 1e-4 of seeds for each of 14.
    """
    seed = seeded(2)
    values = torch.multinomial(f64(shares), GROUPS * M, replacement=True, generator=seed)
    groups = torch.arange(GROUPS).repeat_interleave(M)
    found = torch.bincount(values[independent(name, values.double(), groups, seed)], minlength=len(shares))
    edges = torch.cat([f64([0.0]), f64(shares).cumsum(0)]).clamp(max=1)
    expected = RULES[name][1](edges).diff() * found.sum()
    chi2 = float(((found - expected) ** 2 / expected).sum())
    assert chi2 < {2: 15.2, 4: 21.2}[len(shares)]


@pytest.mark.parametrize("name", RULES)
def test_probability_is_what_is_drawn(name: str) -> None:
    """Over many draws each position is accepted with the frequency ``probability``; the number is nearly fixed."""
    rule = RULES[name][0]
    rewards = f64([0.1, 0.9, 0.75, 0.75, 0.3, 0.75, 0.9, 0.2])
    seed, rounds = seeded(3), 1000
    counts = torch.zeros(M, dtype=torch.float64)
    for _ in range(rounds):
        taken = rule(rewards, generator=seed)
        counts[taken.index] += 1
        assert abs(len(taken.index) - float(taken.probability.sum())) < 1
        assert (taken.index.diff() > 0).all()
    p = taken.probability
    error = (counts / rounds - p) / (p * (1 - p) / rounds).sqrt().clamp(min=1e-9)
    assert error.abs().max() < 5  # 8 positions: by chance in 5e-6 of seeds
    assert torch.equal(p[2:4], p[[3, 5]]) and p[1] == p[6]  # equals are treated alike


def shown(others: list[float], own: float, keep: int) -> float:
    """Return the share of a draw among the best K of a group; equal draws share the last places."""
    above, equal = sum(x > own for x in others), 1 + sum(x == own for x in others)
    return min(1.0, max(0.0, (keep - above) / equal))


@pytest.mark.parametrize(("keep", "draws"), [(1, 2), (1, 4), (2, 4), (3, 5), (5, 5), (1, 7)])
def test_groups_by_enumeration(keep: int, draws: int) -> None:
    """Count every group of M that a draw can be in, among 7 draws with ties."""
    rewards = [0.3, 0.1, 0.3, 0.9, 0.5, 0.3, 0.9]
    right = []
    for i, own in enumerate(rewards):
        groups = list(itertools.combinations(rewards[:i] + rewards[i + 1 :], draws - 1))
        right.append(sum(shown(list(g), own, keep) for g in groups) / len(groups))
    assert TopK(keep, draws)(f64(rewards), generator=seeded()).probability.tolist() == pytest.approx(right)
    if (keep, draws) == (1, 2):
        assert Preference()(f64(rewards), generator=seeded()).probability.tolist() == pytest.approx(right)


def test_equals_are_drawn_in_all_ways() -> None:
    """Two of four equals: each of the six pairs, not only those that are far apart."""
    seed, pairs = seeded(18), set()
    for _ in range(200):
        pairs.add(tuple(TopFraction(0.5)(torch.zeros(4), generator=seed).index.tolist()))
    assert pairs == set(itertools.combinations(range(4), 2))


def test_non_decreasing() -> None:
    rewards = torch.randn(64, dtype=torch.float64, generator=seeded(4)).round(decimals=1).clamp(max=1.0)
    for rule, _ in RULES.values():
        p = rule(rewards, generator=seeded()).probability
        order = rewards.argsort()
        assert (p[order].diff() >= -1e-12).all()
        assert p.min() >= 0 and p.max() <= 1


# ---- KL


def kl_of(rule: AcceptanceRule, rewards: Tensor) -> float:
    return rule(rewards, generator=seeded()).kl_nats


@pytest.mark.parametrize(
    ("rule", "nats"),
    [
        (TopK(1, 2), math.log(2) - 1 / 2),
        (TopK(1, 8), math.log(8) - 7 / 8),
        (TopK(1, 64), math.log(64) - 63 / 64),
        (Preference(), math.log(2) - 1 / 2),
        (Threshold(0.8), -math.log(0.2)),
        (ExponentialTilt(0.5, 1.0), (2 * math.exp(2) / math.expm1(2) - 1) - math.log(math.expm1(2) / 2)),
        (ExponentialTilt(0.5), (2 * math.exp(2) / math.expm1(2) - 1) - math.log(math.expm1(2) / 2)),
        (AcceptAll(), 0.0),
    ],
    ids=str,
)
def test_kl_of_continuous_rewards(rule: AcceptanceRule, nats: float) -> None:
    """The closed form, on a round of 20000 evenly spread rewards."""
    rewards = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    assert kl_of(rule, rewards) == pytest.approx(nats, abs=3e-3)


def test_kl_of_the_top_eighth_tends_to_log_8() -> None:
    rewards = torch.rand(1_000_000, dtype=torch.float64, generator=seeded(5))
    assert kl_of(TopFraction(0.125), rewards) == pytest.approx(math.log(8), abs=4e-3)


@pytest.mark.parametrize(("draws", "nats"), [(8, 1.20), (64, 1.77), (2048, 2.03)])
def test_kl_of_the_top_eighth_of_m(draws: int, nats: float) -> None:
    """The rule ranks the draws that it has, so its KL depends on M: the mean of a log a."""
    keep = draws // 8
    f = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    a = sum(torch.from_numpy(beta(draws - k, k + 1).pdf(f.numpy())) for k in range(keep)) / keep
    closed = float(torch.special.xlogy(a, a).mean())
    assert closed == pytest.approx(nats, abs=0.006)
    # of one group, and of many groups of M
    rewards = torch.randn(draws, dtype=torch.float64, generator=seeded(5))
    assert kl_of(TopFraction(0.125), rewards) == pytest.approx(closed, abs=1e-3)
    count = 4096 // draws
    many = torch.randn(count * draws, dtype=torch.float64, generator=seeded(6))
    groups = torch.arange(count).repeat_interleave(draws)
    whole = TopFraction(0.125)(many, groups, generator=seeded())
    assert whole.kl_nats == pytest.approx(closed, abs=1e-3)
    assert len(whole.index) == count * keep


def test_kl_with_ties() -> None:
    """A yes/no reward with p = 0.4, top eighth: log 2.5 = 0.92, and not log 8 = 2.08."""
    rewards = (torch.arange(2000) % 5 < 2).double()
    assert kl_of(TopFraction(0.125), rewards) == pytest.approx(math.log(2.5), abs=1e-3)
    assert kl_of(Threshold(0.5), rewards) == pytest.approx(math.log(2.5), abs=1e-12)
    # winner of 2: a(yes) is 0.8 and a(no) is 0.3 on average, that is shares 0.64 and 0.36
    won = 0.64 * math.log(0.64 / 0.4) + 0.36 * math.log(0.36 / 0.6)
    assert kl_of(Preference(), rewards) == pytest.approx(won, abs=1e-3)
    assert kl_of(TopK(1, 2), rewards) == pytest.approx(won, abs=1e-3)
    # all alike: nothing is selected
    assert kl_of(TopFraction(0.125), torch.ones(64)) == pytest.approx(0.0, abs=1e-12)


def test_kl_with_failures() -> None:
    """A failed reward is a draw that is never accepted: a quarter of failures adds log(4/3)."""
    rewards = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    for rule in (
        TopK(1, 8),
        TopFraction(0.125),
        Preference(),
        Threshold(0.8),
        ExponentialTilt(0.5, 1.0),
        ExponentialTilt(0.5),
        AcceptAll(),
    ):
        failed = rewards.clone()
        failed[1::4] = math.nan
        assert kl_of(rule, failed) == pytest.approx(kl_of(rule, rewards) + math.log(4 / 3), abs=3e-3)
    half = torch.tensor([math.nan, 1.0]).repeat(500)
    assert kl_of(Threshold(0.5), half) == pytest.approx(math.log(2), abs=1e-12)


# ---- failures, conditions, duplicates


@pytest.mark.parametrize("name", RULES)
def test_failures_are_never_accepted(name: str) -> None:
    rule = RULES[name][0]
    rewards = torch.rand(400, dtype=torch.float64, generator=seeded(7))
    rewards[torch.randperm(400, generator=seeded(8))[:150]] = math.nan
    groups = torch.arange(10).repeat_interleave(40)
    for scope in (None, groups):
        taken = rule(rewards, scope, generator=seeded())
        assert not rewards[taken.index].isnan().any()
        assert (taken.probability[rewards.isnan()] == 0).all()
        assert len(taken.index) > 0 and math.isfinite(taken.kl_nats)


@pytest.mark.parametrize("name", [name for name in RULES if name != "threshold"])
def test_failures_leave_the_others_distribution(name: str) -> None:
    """Usable draws are ranked as if the failed ones had not been sampled."""
    rule = RULES[name][0]
    rewards = torch.rand(64, dtype=torch.float64, generator=seeded(9))
    rewards[::3] = math.nan
    usable = ~rewards.isnan()
    whole, part = rule(rewards, generator=seeded()), rule(rewards[usable], generator=seeded())
    assert torch.allclose(whole.probability[usable], part.probability)


def test_nothing_to_accept() -> None:
    with pytest.raises(GraftError, match="failed for all 3"):
        AcceptAll()(torch.full((3,), math.nan))
    with pytest.raises(GraftError, match="none of 3 draws passed the filters"):
        AcceptAll()(torch.arange(3.0), eligible=torch.zeros(3, dtype=torch.bool))
    with pytest.raises(GraftError, match="accepted none of 3"):
        Threshold(5.0)(torch.arange(3.0))
    with pytest.raises(GraftError, match="at most `reward_bound`"):
        ExponentialTilt(1.0, 2.0)(torch.arange(4.0))
    with pytest.raises(GraftError, match="ranks 8 draws and there are 3"):
        TopK(1, 8)(torch.arange(3.0))
    with pytest.raises(GraftError, match="keys"):
        AcceptAll(deduplicate=True)(torch.arange(3.0))
    for wrong in (lambda: TopFraction(0.0), lambda: TopFraction(1.5), lambda: TopK(3, 2), lambda: ExponentialTilt(0.0)):
        with pytest.raises(GraftError):
            wrong()


def unequal() -> tuple[Tensor, Tensor]:
    """Conditions of 64, 128 and 256 draws; the condition changes the reward more than the sample does."""
    groups = torch.cat([torch.full((64 * 2**i,), i) for i in range(3)])
    return torch.rand(len(groups), dtype=torch.float64, generator=seeded(10)) + 5.0 * groups, groups


@pytest.mark.parametrize("rule", [TopFraction(0.25), TopK(2, 8), Preference(), ExponentialTilt(0.3)], ids=str)
def test_within_conditions(rule: AcceptanceRule) -> None:
    """Each condition is accepted in proportion to its draws, so the rule does not select conditions."""
    rewards, groups = unequal()
    taken = rule(rewards, groups, generator=seeded())
    drawn = torch.bincount(groups).double()
    accepted = torch.zeros(3, dtype=torch.float64).index_add(0, groups[taken.index], taken.weight)
    assert torch.allclose(accepted / accepted.sum(), drawn / drawn.sum(), atol=0.01)
    for i in range(3):  # and selected within it
        inside = taken.index[groups[taken.index] == i]
        weight = taken.weight[groups[taken.index] == i]
        gain = (rewards[inside] * weight).sum() / weight.sum() - rewards[groups == i].mean()
        assert gain > 0.1


def test_globally() -> None:
    rewards, groups = unequal()
    taken = TopFraction(0.25, group_by="global")(rewards, groups, generator=seeded())
    assert (groups[taken.index] == 2).all()
    assert torch.equal(taken.index, rewards.argsort()[-112:].sort().values)
    assert TopFraction(0.25, group_by="global")(rewards, generator=seeded()).kl_nats == taken.kl_nats


def test_sparse_conditions_are_put_together() -> None:
    """Conditions with fewer draws than ``min_group_size`` are ranked with their neighbours, and none is dropped."""
    counts = [3, 1, 40, 2, 1, 35, 4]
    groups = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    groups = groups[torch.randperm(len(groups), generator=seeded(11))]
    rewards = torch.rand(len(groups), dtype=torch.float64, generator=seeded(12))
    rule = TopFraction(0.25, min_group_size=32)
    bins = rule._groups(groups, torch.ones(len(groups), dtype=torch.bool))
    assert [sorted(set(groups[b].tolist())) for b in bins] == [[0, 1, 2], [3, 4, 5, 6]]
    assert sorted(torch.cat(bins).tolist()) == list(range(len(groups)))
    taken = rule(rewards, groups, generator=seeded())
    for b in bins:
        assert abs(float(taken.probability[b].sum()) - 0.25 * len(b)) < 1e-9


def test_equal_groups_are_ranked_alone() -> None:
    """Prompts with an equal number of draws are groups of their own, however small."""
    groups = torch.arange(50).repeat_interleave(4)
    rewards = torch.rand(200, dtype=torch.float64, generator=seeded(13)) + 3.0 * groups
    taken = TopFraction(0.25)(rewards, groups, generator=seeded())
    assert torch.equal(taken.index, rewards.reshape(50, 4).argmax(1) + 4 * torch.arange(50))


@pytest.mark.parametrize("rule", [TopK(1, 4), TopFraction(0.25), Preference()], ids=str)
def test_failures_do_not_join_conditions(rule: AcceptanceRule) -> None:
    """A prompt with failed pictures is ranked among its other pictures, not against another prompt."""
    groups = torch.arange(10).repeat_interleave(4)
    rewards = torch.rand(40, dtype=torch.float64, generator=seeded(17)) + 3.0 * groups
    rewards[[0, 14, 15, 36, 37, 38]] = math.nan  # prompts 0, 3 and 9 have 3, 2 and 1 left
    rewards[20:24] = math.nan  # prompt 5 has none
    taken = rule(rewards, groups, generator=seeded())
    p = taken.probability.reshape(10, 4).sum(1)
    wanted = {
        "TopK": [1.0] * 4,
        "TopFraction": [0.25 * k for k in (1, 2, 3, 4)],
        "Preference": [0.5 * k for k in (1, 2, 3, 4)],
    }
    left = (~rewards.isnan()).reshape(10, 4).sum(1).tolist()
    assert p.tolist() == pytest.approx([wanted[type(rule).__name__][k - 1] if k else 0.0 for k in left])


def test_failure_in_the_only_group() -> None:
    assert TopK(1, 4)(f64([1.0, 2.0, math.nan, 3.0]), generator=seeded()).index.tolist() == [3]
    assert Preference()(f64([math.nan, 2.0]), generator=seeded(2)).probability.tolist() == [0.0, 0.5]


def test_distribution_of_keys() -> None:
    """De-duplication alone: a key is kept in a round with probability 1 − (1 − p)^M, once."""
    share, draws, rounds = f64([0.5, 0.25, 0.15, 0.07, 0.03]), 8, 4000
    seed = seeded(14)
    rule = AcceptAll(deduplicate=True)
    kept = torch.zeros(5, dtype=torch.float64)
    for _ in range(rounds):
        keys = torch.multinomial(share, draws, replacement=True, generator=seed)
        taken = rule(torch.zeros(draws), keys=[f"key {k}" for k in keys.tolist()], generator=seed)
        found = torch.bincount(keys[taken.index], minlength=5)
        assert torch.equal(found, (torch.bincount(keys, minlength=5) > 0).long())
        kept += found
    p = 1 - (1 - share) ** draws
    error = (kept / rounds - p) / (p * (1 - p) / rounds).sqrt().clamp(min=1 / rounds)
    assert error.abs().max() < 4.5  # five numbers: by chance in 3e-5 of seeds


@pytest.mark.parametrize("name", RULES)
def test_duplicates_go_before_the_rule(name: str) -> None:
    """One draw of each key is kept, with equal chances, and the rule ranks the kept draws."""
    plain, _ = RULES[name]
    values = torch.rand(20, dtype=torch.float64, generator=seeded(15)).sort().values
    keys = [k for k in range(20) for _ in range(1 + k % 4)]
    rewards = values[keys]
    rule = RULES[name][0]
    right = plain(values, generator=seeded()).probability
    rule.deduplicate = True
    try:
        seed, counts = seeded(16), torch.zeros(len(keys), dtype=torch.float64)
        for _ in range(400):
            taken = rule(rewards, keys=[str(k) for k in keys], generator=seed)
            of_key = torch.zeros(20, dtype=torch.float64).index_add(0, torch.tensor(keys), taken.probability)
            assert torch.allclose(of_key, right)
            assert len({keys[i] for i in taken.index.tolist()}) == len(taken.index)
            counts[taken.probability > 0] += 1
        # four copies of the best key: each was the one kept in a quarter of the rounds (5 standard errors: by chance
        # in 2e-6 of seeds)
        copies = counts[torch.tensor(keys) == 19]
        assert float(copies.sum()) == 400
        assert (copies - 100).abs().max() < 5 * (400 * 0.25 * 0.75) ** 0.5
    finally:
        rule.deduplicate = False


def test_keys_that_say_nothing() -> None:
    """An empty key is no other draw's; a failed draw does not take its key with it."""
    rule = AcceptAll(deduplicate=True)
    taken = rule(f64([1.0, 2.0, 3.0, math.nan, 5.0]), keys=["", "", "a", "b", "b"], generator=seeded())
    assert taken.index.tolist() == [0, 1, 2, 4]


def test_kl_of_deduplication() -> None:
    """Alone: from the realised share c/n of each of U keys to 1/U, less half of 1/c − 1/n for that c is chance."""
    keys = ["a"] * 6 + ["b"] * 3 + ["c"]
    a, b, c = (math.log((1 / 3) / k) for k in (0.6, 0.3, 0.1))
    right = (a - (1 / 6 - 1 / 10) / 2 + b - (1 / 3 - 1 / 10) / 2 + c) / 3
    assert AcceptAll(deduplicate=True)(torch.zeros(10), keys=keys, generator=seeded()).kl_nats == pytest.approx(right)
    # a threshold that only b and c pass
    rewards = f64([0.0] * 6 + [1.0] * 4)
    right = sum(math.log((1 / 2) / k) for k in (0.3, 0.1)) / 2 - (1 / 3 - 1 / 10) / 4
    found = Threshold(0.5, deduplicate=True)(rewards, keys=keys, generator=seeded()).kl_nats
    assert found == pytest.approx(right)


# ---- the tilt


def test_tilt_is_of_each_draw_alone() -> None:
    """A fixed bound: what else was drawn does not matter (with the batch's best as the bound it would)."""
    for others in ([0.0] * 300, [1.9] * 10):
        p = ExponentialTilt(0.5, 2.0)(f64([1.0, *others]), generator=seeded()).probability
        assert float(p[0]) == pytest.approx(math.exp(-2))


def test_weights_of_the_tilt() -> None:
    """Without a bound every draw is kept with a weight: the mean of N(0, 1) moves to 1/temperature."""
    rewards = torch.special.ndtri((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000)
    taken = ExponentialTilt(1.0)(rewards, generator=seeded())
    assert len(taken.index) == 4000
    assert float(taken.weight.mean()) == pytest.approx(1.0)
    assert float((rewards[taken.index] * taken.weight).mean()) == pytest.approx(1.0, abs=0.02)
    assert taken.kl_nats == pytest.approx(0.5, abs=0.02)
    assert taken.effective_sample_size == pytest.approx(4000 / math.e, rel=0.05)  # n / E[w²] = n exp(−1/temperature²)
    assert ExponentialTilt(1.0, 4.0)(rewards, generator=seeded()).weight.unique().tolist() == [1.0]


def test_generator_decides() -> None:
    rewards = torch.zeros(64)
    rule = TopFraction(0.25)
    one, again, other = (rule(rewards, generator=seeded(s)).index for s in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert len(one) == len(other) == 16


@pytest.mark.parametrize("name", RULES)
def test_describes_itself(name: str) -> None:
    text = RULES[name][0].describe()
    assert str(RULES[name][0]) in text and "within each condition" in text
    assert "de-duplicated" in AcceptAll(deduplicate=True, group_by="global").describe()
