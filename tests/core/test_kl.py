"""The KL that a round states, in expectation over rounds, against the KL of what the rule accepts.

A rule accepts a(x) = P(accepted | the draw is x) of a group, the other draws averaged over. Here a is written out as a
polynomial of the CDF, or counted out over all groups, and its KL is integrated on a grid.
"""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from exact import f64
from torch import Tensor

from graft.accept import AcceptAll, AcceptanceRule, ExponentialTilt, Preference, Threshold, TopFraction, TopK
from graft.filters import Candidates, Memory, Novelty, apply_filters

GRID = 20_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def kl(rule: AcceptanceRule, rewards: Tensor, size: int = 0, seed: int = 0, **more: object) -> float:
    """Return the KL of a round, in groups of equal size if one is given."""
    groups = torch.arange(len(rewards)) // size if size else None
    return rule(rewards, groups, generator=seeded(seed), **more).kl_nats  # type: ignore[arg-type]


def of(a: Tensor, p: "Tensor | float") -> float:
    """KL of p a / Σ p a to p."""
    total = (p * a).sum()
    return float((torch.special.xlogy(p * a, a)).sum() / total - total.log())


def curve(shown: Callable[[int, int], float], draws: int, usable: float = 1.0) -> Tensor:
    """a on a grid of F: ``shown(j, u)`` is the probability of a draw with j above it of u usable ones."""
    f = (torch.arange(GRID, dtype=torch.float64) + 0.5) / GRID
    out = torch.zeros_like(f)
    for u in range(1, draws + 1):
        ways = math.comb(draws - 1, u - 1) * usable ** (u - 1) * (1 - usable) ** (draws - u)
        for j in range(u if ways else 0):
            out += ways * shown(j, u) * math.comb(u - 1, j) * (1 - f) ** j * f ** (u - 1 - j)
    return out


def tied(a: Tensor, shares: "list[float]") -> Tensor:
    """a averaged over the interval of each value, from the lowest up."""
    edges = (f64([0.0, *shares]).cumsum(0) * GRID).round().long().clamp(max=GRID)
    return torch.stack([a[lo:hi].mean() for lo, hi in itertools.pairwise(edges)])


def best_of(keep: int, draws: int) -> Callable[[int, int], float]:
    """Return the best K of M of u usable draws."""

    def shown(j: int, u: int) -> float:
        m = min(draws, u)
        ways = [math.comb(j, k) * math.comb(u - 1 - j, m - 1 - k) for k in range(min(keep, m)) if k <= j]
        return sum(ways) / math.comb(u - 1, m - 1)

    return shown


def fraction(q: float) -> Callable[[int, int], float]:
    return lambda j, u: min(1.0, max(0.0, q * u - j))


def winner(j: int, u: int) -> float:
    return (u - 1 - j) / (u - 1) if u > 1 else 0.5


RANKED: dict[str, tuple[AcceptanceRule, int, Callable[[int, int], float]]] = {
    "best of 2": (TopK(1, 2), 2, best_of(1, 2)),
    "best of 8": (TopK(1, 8), 8, best_of(1, 8)),
    "3 of 5": (TopK(3, 5), 5, best_of(3, 5)),
    "best of 4, of 6": (TopK(1, 4), 6, best_of(1, 4)),
    "a quarter of 8": (TopFraction(0.25, min_group_size=1), 8, fraction(0.25)),
    "0.3 of 7": (TopFraction(0.3, min_group_size=1), 7, fraction(0.3)),
    "an eighth of 4": (TopFraction(0.125, min_group_size=1), 4, fraction(0.125)),
    "a tenth of 3": (TopFraction(0.1, min_group_size=1), 3, fraction(0.1)),
    "winner of 2, of 5": (Preference(min_group_size=1), 5, winner),
}


@pytest.mark.parametrize("name", RANKED)
def test_continuous_rewards_of_small_groups(name: str) -> None:
    """The KL is exact for any rewards, because only their order counts."""
    rule, size, shown = RANKED[name]
    rewards = torch.rand(30 * size, dtype=torch.float64, generator=seeded(1))
    assert kl(rule, rewards, size) == pytest.approx(of(curve(shown, size), 1 / GRID), abs=1e-6)
    if name == "best of 2":
        assert kl(rule, rewards, size) == pytest.approx(math.log(2) - 1 / 2, abs=1e-9)
    if name == "an eighth of 4":  # accepts the best of four in every second group
        assert kl(rule, rewards, size) == pytest.approx(math.log(4) - 3 / 4, abs=1e-9)
    if name == "best of 8":
        assert kl(rule, rewards, size) == pytest.approx(math.log(8) - 7 / 8, abs=1e-9)


def test_groups_of_different_sizes() -> None:
    """Each condition has its own a(F), and the joint KL is the mean weighted by the accepted draws of each."""
    sizes = [1, 2, 3, 8, 40]
    groups = torch.repeat_interleave(torch.arange(5), torch.tensor(sizes))
    rewards = torch.rand(len(groups), dtype=torch.float64, generator=seeded(2))
    each = [of(curve(fraction(0.2), n), 1 / GRID) for n in sizes]
    right = sum(n * value for n, value in zip(sizes, each, strict=True)) / sum(sizes)
    found = TopFraction(0.2, min_group_size=1)(rewards, groups, generator=seeded(3)).kl_nats
    assert found == pytest.approx(right, abs=1e-6)
    # one ranking of all: the conditions do not matter
    found = TopFraction(0.2, group_by="global")(rewards, groups, generator=seeded(3)).kl_nats
    assert found == pytest.approx(of(curve(fraction(0.2), 54), 1 / GRID), abs=1e-6)


@pytest.mark.parametrize("values", [2, 3])
@pytest.mark.parametrize(
    "name", ["best of 2", "3 of 5", "best of 4, of 6", "an eighth of 4", "a tenth of 3", "winner of 2, of 5"]
)
def test_ties_counted_out(name: str, values: int) -> None:
    """The mean of the stated KL over all groups of draws with two or three values, with their probabilities.

    Groups of four and more are right to 2e-3. Three draws say less of ties, two almost nothing.
    """
    rule, size, shown = RANKED[name]
    for shares in ([0.5, 0.3, 0.2], [0.1, 0.2, 0.7]):
        shares, stated = [*shares[: values - 1], sum(shares[values - 1 :])], 0.0
        for counts in itertools.product(range(size + 1), repeat=values):
            if sum(counts) == size:
                ways = math.factorial(size) / math.prod(math.factorial(k) for k in counts)
                chance = ways * math.prod(share**k for share, k in zip(shares, counts, strict=True))
                rewards = torch.repeat_interleave(torch.arange(values, dtype=torch.float64), torch.tensor(counts))
                n = len(rewards)
                information = rule.information(rewards, n, 1.0) / float(rule.acceptance(rewards)[0].sum())
                stated += chance * (information - math.log(float(rule.acceptance(rewards)[0].mean())))
        right = of(tied(curve(shown, size), shares), f64(shares))
        assert stated == pytest.approx(right, abs={2: 0.04, 3: 0.01}.get(size, 2e-3))


@pytest.mark.parametrize(("draws", "share"), [(8, 0.2), (16, 0.1), (32, 0.05), (48, 0.2), (200, 0.125)])
def test_yes_or_no_in_groups(draws: int, share: float) -> None:
    """The best eighth, where so many draws are a yes: each number of them with its binomial probability."""
    rule, stated, plug_in = TopFraction(0.125, min_group_size=1), 0.0, 0.0
    for yes in range(draws + 1):
        ways = math.lgamma(draws + 1) - math.lgamma(yes + 1) - math.lgamma(draws - yes + 1)
        chance = math.exp(ways + yes * math.log(share) + (draws - yes) * math.log1p(-share))
        if chance > 1e-9:
            rewards = (torch.arange(draws) < yes).double()
            stated += chance * (rule.information(rewards, draws, 1.0) / (0.125 * draws) - math.log(0.125))
            p = rule.acceptance(rewards)[0]
            plug_in += chance * (float(torch.special.xlogy(p, p).sum()) / (0.125 * draws) - math.log(0.125))
    a = tied(curve(fraction(0.125), draws), [1 - share, share])
    right = of(a, f64([1 - share, share]))
    assert stated == pytest.approx(right, abs=2e-3 if draws <= 32 else 0.03)
    if draws < 64:
        assert abs(plug_in - right) > 0.07  # of the realised probabilities themselves


@pytest.mark.parametrize("share", [0.25, 0.5])
@pytest.mark.parametrize("name", ["best of 2", "best of 8", "an eighth of 4", "a quarter of 8", "winner of 2, of 5"])
def test_failures_are_rejected(name: str, share: float) -> None:
    """A failed draw is one that is never accepted, and how many of a group fail is chance.

    The best of 8 is hardly changed by failures: they would not have won. To 4 standard errors of the usable share.
    """
    rule, size, shown = RANKED[name]
    groups = 1600 // size
    rewards = torch.rand(groups * size, dtype=torch.float64, generator=seeded(4))
    rewards[torch.rand(len(rewards), generator=seeded(5)) < share] = math.nan
    a = curve(shown, size, 1 - share)
    right = of(torch.cat([a, f64([0.0])]), torch.cat([torch.full((GRID,), (1 - share) / GRID).double(), f64([share])]))
    assert kl(rule, rewards, size) == pytest.approx(right, abs=4 * (share / (1 - share) / len(rewards)) ** 0.5 + 2e-3)


RULES: list[AcceptanceRule] = [
    *[
        TopK(1, 8),
        TopFraction(0.125),
        Preference(),
        Threshold(0.8),
        ExponentialTilt(0.5, 1.0),
        ExponentialTilt(0.5),
        AcceptAll(),
    ],
    *[TopFraction(0.125, group_by="global"), AcceptAll(deduplicate=True)],
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.describe())
def test_draws_that_were_not_scored_take_no_part(rule: AcceptanceRule) -> None:
    """A quarter of a round is scored: the stated KL is that of this quarter alone, and not log 4 more."""
    rewards = torch.rand(320, dtype=torch.float64, generator=seeded(6))
    groups, keys = torch.arange(320) % 2, [str(i // 8) for i in range(320)]
    scored = torch.rand(320, generator=seeded(7)) < 0.25
    rewards[scored.nonzero()[:5, 0]] = math.nan  # and some of those fail
    rewards[~scored] = math.nan
    some = scored.nonzero()[:, 0]
    alone = rule(rewards[some], groups[some], [keys[i] for i in some.tolist()], seeded(8))
    whole = rule(rewards, groups, keys, seeded(8), scored=scored)
    assert whole.kl_nats == pytest.approx(alone.kl_nats, rel=1e-9)
    assert float(whole.probability.sum()) == pytest.approx(float(alone.probability.sum()))
    assert not bool(whole.probability[~scored].any())
    assert rule(rewards, groups, keys, seeded(8)).kl_nats > whole.kl_nats + 1.2  # if all had been scored: log 4 = 1.39


def test_conditions_are_not_joined_for_what_was_not_scored() -> None:
    """Prompts with as many draws each stay apart; classes are put together until enough of their draws are scored."""
    rewards = torch.arange(64, dtype=torch.float64)
    scored = torch.arange(64) % 4 == 0
    rewards[~scored] = math.nan
    taken = TopFraction(0.5)(rewards, torch.arange(64) // 8, generator=seeded(), scored=scored)
    assert taken.index.tolist() == [4, 12, 20, 28, 36, 44, 52, 60]
    sizes = torch.tensor([30, 34])
    taken = TopFraction(0.5, min_group_size=16)(
        rewards, torch.arange(2).repeat_interleave(sizes), generator=seeded(), scored=scored
    )
    assert taken.index.tolist() == list(range(32, 64, 4))


def test_deduplication_in_expectation() -> None:
    """Keys of probability p are accepted in proportion to 1 − (1 − p)^n. 300 rounds of 48 draws, 4 standard errors."""
    n, repeats = 48, 300
    share = 1 / torch.arange(1, 101, dtype=torch.float64)
    share /= share.sum()
    kept = 1 - (1 - share) ** n
    right = of(kept / share, share)
    rule, seed, stated, plug_in = AcceptAll(deduplicate=True), seeded(9), [], []
    drawn = torch.multinomial(share, n * repeats, replacement=True, generator=seed).reshape(repeats, n).tolist()
    for row in drawn:
        stated.append(rule(torch.zeros(n), keys=[str(k) for k in row], generator=seed).kl_nats)
        counts = torch.tensor(row).unique(return_counts=True)[1].double()
        plug_in.append(float((n / len(counts) / counts).log().mean()))
    found = f64(stated)
    assert float(found.mean()) == pytest.approx(right, abs=4 * float(found.std()) / repeats**0.5 + 5e-3)
    assert float(f64(plug_in).mean()) > right + 0.05  # of the realised shares


@pytest.mark.parametrize("times", [1, 2])
def test_memory_in_expectation(times: int) -> None:
    """A filter that leaves each key at most so often: min(times, C) of C copies. 200 rounds, 4 standard errors."""
    n, repeats, share = 32, 200, f64([0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    counts = torch.arange(n + 1, dtype=torch.float64)
    ways = torch.tensor([math.comb(n, k) for k in range(n + 1)], dtype=torch.float64)
    left = (ways * share[:, None] ** counts * (1 - share[:, None]) ** (n - counts) * counts.clamp(max=times)).sum(1)
    right = of(left / share, share)
    seed, stated = seeded(10), []
    drawn = torch.multinomial(share, n * repeats, replacement=True, generator=seed).reshape(repeats, n).tolist()
    for row in drawn:
        keys = [str(k) for k in row]
        now = apply_filters([Memory(times)], Candidates(torch.zeros(n).double(), keys, torch.zeros(n).long()), [], seed)
        stated.append(AcceptAll()(now.rewards, None, keys, seed, now.eligible, now.interchangeable).kl_nats)
    found = f64(stated)
    assert float(found.mean()) == pytest.approx(right, abs=4 * float(found.std()) / repeats**0.5 + 5e-3)


def test_after_a_filter() -> None:
    """Known draws are rejected: −log P(new), plus the rule's KL of the others, within 4 standard errors."""
    n = 1200
    rewards = torch.rand(n, dtype=torch.float64, generator=seeded(11))
    known = torch.rand(n, generator=seeded(12)) < 0.3
    draws = Candidates(rewards, [str(i) for i in range(n)], torch.arange(n) // 4, known=known)
    now = apply_filters([Novelty()], draws, [], seeded())
    found = TopK(1, 4)(rewards, draws.groups, draws.keys, seeded(), now.eligible, now.interchangeable).kl_nats
    a = curve(best_of(1, 4), 4, 0.7)
    right = of(torch.cat([a, f64([0.0])]), torch.cat([torch.full((GRID,), 0.7 / GRID).double(), f64([0.3])]))
    assert found == pytest.approx(right, abs=4 * (0.3 / 0.7 / n) ** 0.5 + 2e-3)


@pytest.mark.parametrize(("minimum", "draws"), [(0.8, 500), (0.5, 100)])
def test_threshold_in_expectation(minimum: float, draws: int) -> None:
    """−log P(r >= minimum); the log of the realised share is 1/(2 accepted) more on average. 400 rounds."""
    stated = f64(
        [kl(Threshold(minimum), torch.rand(draws, dtype=torch.float64, generator=seeded(s))) for s in range(400)]
    )
    p = 1 - minimum
    bias = (1 - p) / (2 * p * draws)
    assert float(stated.mean()) == pytest.approx(-math.log(p) + bias, abs=4 * float(stated.std()) / 20)


def test_bounded_tilt_in_expectation() -> None:
    """p* ∝ exp(r / 0.5) of uniform rewards. 400 rounds of 200 draws, 4 standard errors."""
    right = (2 * math.exp(2) / math.expm1(2) - 1) - math.log(math.expm1(2) / 2)
    rounds = torch.rand(400, 200, dtype=torch.float64, generator=seeded(13))
    stated = f64([kl(ExponentialTilt(0.5, 1.0), row) for row in rounds])
    assert float(stated.mean()) == pytest.approx(right, abs=4 * float(stated.std()) / 20 + 2e-3)


@pytest.mark.parametrize(("temperature", "within"), [(1.0, 0.01), (0.5, 0.03)])
def test_weights_of_small_groups(temperature: float, within: float) -> None:
    """exp(r / temperature) over its sum in groups of 8: the other draws of the group are averaged over."""
    reward = torch.special.ndtri((torch.arange(500, dtype=torch.float64) + 0.5) / 500)
    others = torch.randn(4000, 7, dtype=torch.float64, generator=seeded(14))
    own, rest = (reward / temperature).exp()[:, None], (others / temperature).exp().sum(1)
    right = of((8 * own / (own + rest)).mean(1), 1 / 500)
    rewards = torch.randn(400, 8, dtype=torch.float64, generator=seeded(15))
    weight = (rewards / temperature).softmax(1)
    plugged = float(torch.special.xlogy(weight, 8 * weight).sum(1).mean())
    rule = ExponentialTilt(temperature, min_group_size=1)
    found = f64([rule.information(row, 8, 1.0) / 8 for row in rewards])
    assert float(found.mean()) == pytest.approx(right, abs=within + 4 * float(found.std()) / 20)
    assert plugged > right + 0.04


def test_a_kl_is_never_negative() -> None:
    for size in (2, 3, 4, 8, 40):
        for seed in range(5):
            rewards = torch.randint(2, (5 * size,), generator=seeded(seed)).double()
            assert kl(TopFraction(0.9, min_group_size=1), rewards, size, seed) >= 0
    assert kl(TopFraction(0.125, min_group_size=1), torch.ones(80), 8) == pytest.approx(0.0, abs=1e-3)
    assert kl(TopFraction(0.125), torch.ones(80)) == pytest.approx(0.0, abs=1e-9)
