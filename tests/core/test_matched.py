"""Distances and gains matched by condition: a model with the accepted distribution of each condition is at the floor.

The reference draws u uniformly under each of four conditions, and the reward is u plus a bonus of the condition. So the
accepted distribution of each condition is known: the upper end of u for `Threshold` and for the best of a whole round,
exp(u / temperature) for a bounded `ExponentialTilt`. Nothing is accepted under the last condition.
"""

from collections.abc import Callable

import pytest
import torch
from exact import f64
from torch import Tensor

from graft.accept import AcceptanceRule, ExponentialTilt, Threshold, TopFraction
from graft.commands.compare.matched import match
from graft.commands.compare.measure import distances
from graft.domain.distance import coverage, frechet, internal_diversity, paired_mmd
from graft.errors import GraftError
from graft.rounds.gain import gain, matching, means

PRIOR, BONUS = f64([0.4, 0.3, 0.2, 0.1]), f64([0.0, -0.4, -0.46, -5.0])
Sample = Callable[[Tensor, Tensor], Tensor]  # uniform numbers and conditions: u of what is accepted


def above(minimum: float) -> Sample:
    """u given that the reward is at least that; the reference's own where it cannot be."""

    def sample(uniform: Tensor, groups: Tensor) -> Tensor:
        least = (minimum - BONUS[groups]).clamp(min=0)
        return torch.where(least < 1, least + (1 - least) * uniform, uniform)

    return sample


def tilted(uniform: Tensor, groups: Tensor) -> Tensor:
    """Return u of density exp(u / 0.25), by the inverse of its CDF, for any condition."""
    return torch.where(groups < 3, 0.25 * torch.log1p(uniform * torch.expm1(f64(4.0))), uniform)


RULES: dict[str, tuple[AcceptanceRule, Sample]] = {
    "threshold": (Threshold(0.5), above(0.5)),
    "tilt": (ExponentialTilt(0.25, 1.0, min_group_size=1), tilted),
    # of 0.4 · 0.35 + 0.3 · 0 of all draws, the best
    "best of the round": (TopFraction(0.14, group_by="global"), above(0.65)),
}


def conditions(count: int, generator: torch.Generator) -> Tensor:
    return torch.multinomial(PRIOR, count, replacement=True, generator=generator)


def features(u: Tensor, groups: Tensor) -> Tensor:
    return torch.cat([u[:, None], torch.nn.functional.one_hot(groups, 4).double()], 1)


def drawn(name: str, seed: int, count: int, tuned: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(u, condition) of what the rule accepts of a round, and of a model that has its distribution exactly."""
    rule, sample = RULES[name]
    generator = torch.Generator().manual_seed(seed)
    groups = conditions(count, generator)
    u = torch.rand(count, dtype=torch.float64, generator=generator)
    index = rule(u + BONUS[groups], groups, generator=generator).index
    theirs = conditions(tuned, generator)
    return u[index], groups[index], sample(torch.rand(tuned, dtype=torch.float64, generator=generator), theirs), theirs


@pytest.mark.parametrize("name", RULES)
def test_the_accepted_distribution_is_at_its_floor(name: str) -> None:
    """Three distances over 30 rounds: the mean of value − floor within 4 standard errors of 0, 6e-5 by chance for each.

    The draws that one round ranks share its threshold, which large rounds make the same as the model's. Unmatched,
    the Fréchet distance is more than ten times its floor, for that the conditions differ.
    """
    found: dict[str, list[float]] = {}
    for seed in range(30):
        u, groups, ours, theirs = drawn(name, seed, 12_000, 800)
        matched = match(groups, theirs, torch.Generator().manual_seed(seed))
        for key, value in distances(features(u, groups), features(ours, theirs), matched).items():
            found.setdefault(key, []).append(value)
        real, tuned = features(u, groups), features(ours, theirs)
        n = min(len(real) // 2, len(tuned))
        floor = frechet(real[:n], real[n : 2 * n])  # the accepted draws are in random order
        found.setdefault("unmatched", []).append(frechet(real[:n], tuned[:n]) / floor)
        covered = torch.isin(theirs, groups.unique())
        assert matched.share == pytest.approx(float(covered.double().mean()), abs=0.02)
    for key in ("mmd", "frechet", "coverage"):
        gap = f64(found[key]) - f64(found[f"{key}_floor"])
        assert abs(float(gap.mean())) < 4 * float(gap.std()) / 30**0.5, key
    mmd = f64(found["mmd"])
    assert abs(float(mmd.mean())) < 4 * float(mmd.std()) / 30**0.5  # 0 on average, whatever the conditions are
    assert min(found["unmatched"]) > 10


def test_another_distribution_is_above_the_floor() -> None:
    """The reference's own draws, under the same conditions."""
    for seed in range(3):
        u, groups, _, theirs = drawn("threshold", seed, 3000, 800)
        matched = match(groups, theirs, torch.Generator().manual_seed(seed))
        reference = torch.rand(800, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        value = distances(features(u, groups), features(reference, theirs), matched)
        assert value["frechet"] > 10 * value["frechet_floor"] and value["mmd"] > 3 * abs(value["mmd_floor"])
        assert value["coverage"] < value["coverage_floor"]


def test_sets_have_the_same_conditions() -> None:
    """Each set has as many samples of a condition as all sets have, none twice, weighted by the model's share."""
    accepted = torch.repeat_interleave(torch.arange(5), torch.tensor([40, 7, 1, 0, 12]))
    tuned = torch.repeat_interleave(torch.arange(5), torch.tensor([8, 6, 4, 3, 0]))
    matched = match(accepted, tuned, torch.Generator().manual_seed(0))
    for groups in (accepted[matched.half], accepted[matched.other], tuned[matched.tuned]):
        assert groups.tolist() == [0] * 8 + [1] * 3
    assert len({*matched.half.tolist(), *matched.other.tolist()}) == 22 and len(set(matched.tuned.tolist())) == 11
    assert matched.share == pytest.approx(14 / 21)  # conditions with one accepted draw or none are left out
    weight = f64([1.0] * 8 + [2.0] * 3)
    assert torch.allclose(matched.weight, weight / weight.mean())
    none = match(torch.tensor([7, 7]), torch.tensor([1, 2]))
    assert none.share == 0 and len(none.half) == 0 and distances(torch.rand(2, 3), torch.rand(2, 3), none) == {}


@pytest.mark.parametrize("name", RULES)
def test_gain_of_the_accepted_distribution(name: str) -> None:
    """The accepted distribution has the whole accepted gain, at any rates; 5 standard errors of 7000 samples."""
    u, groups, ours, theirs = drawn(name, 1, 20_000, 8000)
    reference = torch.rand(8000, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    accepted = means(u + BONUS[groups], groups)
    found = gain(ours + BONUS[theirs], reference + BONUS[theirs], theirs, accepted)
    assert found.share == pytest.approx(float(torch.isin(theirs, groups.unique()).double().mean()))
    assert 3 not in accepted and found.of_accepted == pytest.approx(1.0, abs=0.06)
    # of all samples, those that gain nothing included
    assert found.reward == pytest.approx(found.accepted * found.share, abs=0.02)
    # the mean of what was accepted says as much of the conditions as of the reward
    mixed = float((u + BONUS[groups]).mean() - (reference + BONUS[theirs]).mean())
    assert mixed > found.accepted + 0.3


def test_gain_by_hand() -> None:
    """Conditions 0 and 1 with three and one samples; a failure is no reward; of 2 nothing was accepted."""
    nan = float("nan")
    groups = torch.tensor([0, 0, 0, 1, 2, 2])
    found = gain(
        f64([3.0, 4.0, nan, 7.0, 9.0, 9.0]), f64([1.0, nan, 2.0, 5.0, 9.0, 8.0]), groups, {0: 5.5, 1: 7.0, 9: 1.0}
    )
    assert found.reward == pytest.approx((3 * 2.0 + 1 * 2.0 + 2 * 0.5) / 6)
    assert found.accepted == pytest.approx((3 * 4.0 + 1 * 2.0) / 4)
    assert found.of_accepted == pytest.approx(2.0 / 3.5) and found.share == pytest.approx(4 / 6)
    lost = gain(f64([nan, 1.0]), f64([1.0, nan]), torch.tensor([0, 1]), {0: 1.0})
    assert lost.reward != lost.reward and lost.of_accepted != lost.of_accepted
    weights = matching(torch.tensor([0, 0, 0, 0, 1, 1, 2]), torch.tensor([0, 3, 5]), f64([1.0, 3.0, 1.0]))
    assert weights.tolist() == [1.0, 3.0, 2.0]


def test_weights_stand_for_copies() -> None:
    """A sample of weight 2 is one that is there twice, but for the correction of the number of samples."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 12, 3, dtype=torch.float64, generator=generator)
    weight = torch.tensor([1.0, 2.0, 3.0]).repeat(4)
    rows = torch.repeat_interleave(torch.arange(12), weight.long())
    w = weight.double() / weight.sum()
    assert coverage(a, b, weight=weight) == pytest.approx(float(_inside(a, b) @ w))
    far = torch.cdist(a, a)
    same = float(w @ far @ w) / (1 - float(w.square().sum()))
    assert internal_diversity(a, weight) == pytest.approx(same)
    assert internal_diversity(a, torch.full((12,), 3.0)) == pytest.approx(internal_diversity(a))
    # the mean of the Gaussian is that of the copies, and its covariance but for n
    shift = f64([1.0, 2.0, 3.0])
    assert frechet(a, a + shift, weight) == pytest.approx(14.0)
    copies = a[rows] - a[rows].mean(0)
    spread = float(copies.square().sum()) / len(rows) / (1 - float(w.square().sum()))
    assert frechet(a, 3 * (a - w @ a) + w @ a, weight) == pytest.approx(4 * spread)
    assert paired_mmd(a, b, weight=torch.ones(12)) == pytest.approx(paired_mmd(a, b))
    left = torch.ones(12).index_fill(0, torch.tensor([3]), 0.0)
    rest = torch.arange(12) != 3
    assert paired_mmd(a, b, weight=left) == pytest.approx(paired_mmd(a[rest], b[rest]))
    with pytest.raises(GraftError, match="12 samples have 3 weights"):
        frechet(a, b, f64([1.0, 2.0, 3.0]))


def _inside(real: Tensor, tuned: Tensor) -> Tensor:
    radius = torch.cdist(real, real).sort(1).values[:, 5]
    return (torch.cdist(real, tuned).amin(1) <= radius).double()
