"""Estimates of a level from draws, on distributions for which they are known.

x_0 ~ N(m, s²) in one dimension and a linear reward make (r, x_u) jointly Gaussian: whatever the rule, both ρ² and the
surviving share are alpha² s² / (alpha² s² + sigma²). For r = −(x_0 − a)² the estimate's reward is E[r | x_u] up to a
constant, and both shares are integrals over a Gaussian.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from exact import Exact, f64, normal, rows
from torch import Tensor

from graft import GraftError
from graft.accept import Preference, TopFraction
from graft.commands.levels import statistics
from graft.commands.levels.results import Level
from graft.commands.levels.search import EXACT, select_level
from graft.commands.levels.statistics import Estimate
from graft.process import (
    CosineSchedule,
    Gaussian,
    LinearSchedule,
    MaskProjection,
    MultiFieldProcess,
    PolynomialSchedule,
    ZeroCenterOfMass,
)
from graft.process.base import Process
from graft.rollouts.settings import LevelSearch
from graft.rounds.gain import condition_matched_mean

MEAN, VARIANCE, GOAL = 0.4, 0.7, 1.0
PROCESS = Gaussian(CosineSchedule(), "v", (1,))


def linear(x: Tensor) -> Tensor:
    return 2 * x - 1


def quadratic(x: Tensor) -> Tensor:
    return -((x - GOAL) ** 2)


class Draws:
    """n exact draws, their estimates at a level and exact re-rolls from there; an eighth accepted."""

    def __init__(self, reward: Callable[[Tensor], Tensor], level: float, count: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        alpha, sigma = (float(c) for c in PROCESS.alpha_sigma(level))
        z = torch.randn(3, count, dtype=torch.float64, generator=generator)
        x0 = MEAN + VARIANCE**0.5 * z[0]
        xu = alpha * x0 + sigma * z[1]
        slope = alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2)
        estimate = MEAN + slope * (xu - alpha * MEAN)
        again = estimate + (VARIANCE - slope * alpha * VARIANCE) ** 0.5 * z[2]
        self.rewards, self.guesses, self.again = reward(x0), reward(estimate), reward(again)
        self.groups = torch.zeros(count, dtype=torch.long)
        chosen = TopFraction(0.125)(self.rewards, generator=generator)
        self.index, self.weight = chosen.index, chosen.weight
        self.fold = statistics.folds(count, generator)
        self.generator = generator

    def statistic(self, name: str) -> Callable[[Tensor], Tensor]:
        fit = (self.rewards, self.guesses, self.groups, self.fold)
        return {
            "decided": partial(statistics.decided, *fit),
            "predicted": partial(statistics.predicted, *fit, self.index, self.weight),
            "measured": partial(statistics.measured, self.rewards, self.again, self.groups, self.index, self.weight),
        }[name]

    def estimate(self, name: str, times: int) -> Estimate:
        counts = statistics.resamples(len(self.rewards), times, self.generator)
        return statistics.estimate(self.statistic(name), counts)


def right(reward: Callable[[Tensor], Tensor], level: float, name: str) -> float:
    """The share, in closed form or by quadrature."""
    alpha, sigma = (float(c) for c in PROCESS.alpha_sigma(level))
    share = alpha**2 * VARIANCE / (alpha**2 * VARIANCE + sigma**2)
    if reward is linear:
        return share

    def variance(v: float) -> float:
        """Return the variance of (z − a)², z ~ N(m, v)."""
        return 2 * v**2 + 4 * (MEAN - GOAL) ** 2 * v

    if name == "decided":
        return variance(share * VARIANCE) / variance(VARIANCE)
    x = torch.linspace(-6, 6, 200_001, dtype=torch.float64)  # x_0 in standard deviations
    density = (-0.5 * x**2).exp()
    value = quadratic(MEAN + VARIANCE**0.5 * x)
    order = value.argsort(descending=True)
    best = order[(density[order].cumsum(0) / density.sum()) <= 0.125]
    # the estimate given x_0 is Gaussian around m + share (x_0 − m), and E[r | x_u] has the mean of r
    middle = MEAN + share * VARIANCE**0.5 * x - GOAL
    fit = -(middle**2)
    fit, value = (v - (density * v).sum() / density.sum() for v in (fit, value))
    return float((density * fit)[best].sum() / (density * value)[best].sum())


@pytest.mark.parametrize("level", [0.1, 0.3, 0.5, 0.8])
@pytest.mark.parametrize("reward", [linear, quadratic])
@pytest.mark.parametrize("name", ["decided", "predicted", "measured"])
def test_closed_forms(name: str, reward: Callable[[Tensor], Tensor], level: float) -> None:
    draws = Draws(reward, level, 200_000, seed=round(100 * level))
    found = float(draws.statistic(name)(torch.ones(1, len(draws.rewards), dtype=torch.float64)))
    # 25 000 accepted: standard errors up to 0.005; 24 of these, so 4 of them are by chance in 2e-3 of seeds
    assert found == pytest.approx(right(reward, level, name), abs=0.02)


@pytest.mark.parametrize("reward", [linear, pytest.param(quadratic, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["decided", "predicted", "measured"])
def test_interval_covers(name: str, reward: Callable[[Tensor], Tensor]) -> None:
    """Nearly 95 % of the intervals from 500 draws, with 63 accepted, contain the truth."""
    times, level = 200, 0.4
    truth = right(reward, level, name)
    inside, width = 0, 0.0
    for seed in range(times):
        found = Draws(reward, level, 500, seed).estimate(name, 150)
        inside += found.low <= truth <= found.high
        width += (found.high - found.low) / times
        assert found.low <= found.value <= found.high
    # 0.95 has a standard error of 0.015 here, and the percentile interval of a few accepted is known to be some short
    assert 0.89 <= inside / times <= 0.985, inside / times
    assert width < 0.4  # and says something


def test_fit_is_cross_fitted() -> None:
    """Guesses without information predict nothing, however many resamples repeat a draw."""
    draws = Draws(linear, 0.4, 400, 0)
    draws.guesses = torch.randn(400, dtype=torch.float64, generator=draws.generator)
    for name in ("decided", "predicted"):
        found = draws.estimate(name, 100)
        assert abs(found.value) < 0.05 and found.low < 0.03 and found.high < 0.15


def test_missing_guesses() -> None:
    """A prediction that cannot be scored is evidence too; without any guess the share is 0 and not NaN."""
    draws = Draws(linear, 0.1, 4000, 0)
    ones = torch.ones(1, 4000, dtype=torch.float64)
    whole = float(draws.statistic("decided")(ones))
    draws.guesses[draws.rewards < draws.rewards.median()] = math.nan
    part = float(draws.statistic("decided")(ones))
    assert 0.6 < part < whole
    draws.guesses[:] = math.nan
    assert float(draws.statistic("decided")(ones)) == 0
    draws.guesses[:] = 3.0
    assert float(draws.statistic("predicted")(ones)) == 0


def test_condition_is_not_what_a_level_decides() -> None:
    """Conditions far apart in reward, known at every level: the shares are those within a condition."""
    draws = Draws(linear, 0.4, 60_000, 0)
    kind = torch.randint(3, (60_000,), generator=draws.generator)
    draws.groups, shift = kind, 100.0 * kind
    chosen = TopFraction(0.125)(draws.rewards + shift, kind, generator=draws.generator)
    draws.index, draws.weight = chosen.index, chosen.weight
    draws.rewards, draws.guesses, draws.again = (v + shift for v in (draws.rewards, draws.guesses, draws.again))
    ones = torch.ones(1, 60_000, dtype=torch.float64)
    for name in ("decided", "predicted", "measured"):
        found = float(draws.statistic(name)(ones))
        assert found == pytest.approx(right(linear, 0.4, name), abs=0.03)


def test_gain_is_the_rounds_own() -> None:
    """`statistics.condition_matched_mean` counts as the one of rounds, also conditions without accepted draws."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.randn(90, dtype=torch.float64, generator=generator)
    groups = torch.randint(4, (90,), generator=generator) * 3
    chosen = Preference(min_group_size=1)(rewards, groups, generator=generator)
    keep = groups[chosen.index] != 6
    index, weight = chosen.index[keep], torch.rand(int(keep.sum()), dtype=torch.float64, generator=generator)
    ours = statistics.condition_matched_mean(rewards, groups, index, weight, torch.ones(1, 90, dtype=torch.float64))
    assert float(ours) == pytest.approx(condition_matched_mean(rewards, groups, index, weight)[0])
    # a draw that is counted twice is a draw that is there twice
    counts = torch.ones(1, 90, dtype=torch.float64)
    counts[0, index[3]] = 2
    again, extra = torch.cat([rewards, rewards[index[3:4]]]), torch.cat([groups, groups[index[3:4]]])
    twice = condition_matched_mean(
        again, extra, torch.cat([index, f64([90]).long()]), torch.cat([weight, weight[3:4]])
    )[0]
    assert float(statistics.condition_matched_mean(rewards, groups, index, weight, counts)) == pytest.approx(twice)


def test_rerolls_that_failed_cost_their_draws() -> None:
    draws = Draws(linear, 0.4, 4000, 0)
    ones = torch.ones(1, 4000, dtype=torch.float64)
    draws.again[draws.index[::3]] = math.nan
    assert float(draws.statistic("measured")(ones)) == pytest.approx(right(linear, 0.4, "measured"), abs=0.1)
    draws.again[:] = math.nan
    assert draws.statistic("measured")(ones).isnan().all()


def test_resamples() -> None:
    counts = statistics.resamples(50, 400, torch.Generator().manual_seed(0))
    assert (counts.sum(1) == 50).all() and counts.var(1).mean() == pytest.approx(1, abs=0.05)
    fold = statistics.folds(52, torch.Generator().manual_seed(0))
    assert sorted(fold.bincount().tolist()) == [10, 10, 10, 11, 11]


# How hard a distribution is to learn


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("schedule", "prediction"),
    [(CosineSchedule(), "v"), (LinearSchedule(), "velocity"), (PolynomialSchedule(), "eps")],
    ids=["cosine", "flow", "polynomial"],
)
def test_departure_of_a_gaussian(schedule: object, prediction: str, level: float) -> None:
    """E|score + x|² = alpha² |m|² + tr(S_u − 2 + 1 / S_u) for N(alpha m, S_u), where the prior is N(0, 1)."""
    distribution = normal(f64([0.6, -0.4]), f64([[0.8, 0.3], [0.3, 0.5]]))
    process = Gaussian(schedule, prediction, (2,))  # type: ignore[arg-type]
    node, share = np.polynomial.hermite_e.hermegauss(6)  # exact for what is quadratic in the state
    z = torch.cartesian_prod(*[torch.from_numpy(node)] * 2)
    p = torch.cartesian_prod(*[torch.from_numpy(share / share.sum())] * 2).prod(1)
    there = distribution.at(process, level)
    size, axes = torch.linalg.eigh(there.covs[0])
    x = there.means[0] + (z * size.sqrt()) @ axes.mT
    estimate = process.predict_x0(process(Exact(process, distribution), x, level, rows(len(x))), x, level, rows(len(x)))
    found = float(p @ process.score_gap(estimate, x, level, rows(len(x))))
    right = float(there.means[0].square().sum() + (size - 2 + 1 / size).sum())
    assert found == pytest.approx(right, rel=2e-3)
    assert float(p @ process.score_gap(x * 0, x, level, rows(len(x)))) > 0


def test_departure_in_the_subspace() -> None:
    """For molecules, predictions at padding and of the centre of mass do not count; fields are summed."""
    condition = {"mask": f64([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]])}
    fields: dict[str, Process] = {
        "x": Gaussian(PolynomialSchedule(), "x0", (4, 3), projection=ZeroCenterOfMass()),
        "h": Gaussian(PolynomialSchedule(), "logits", (4, 2), projection=MaskProjection()),
    }
    process = MultiFieldProcess(fields)
    state = process.prior(condition, torch.Generator().manual_seed(0))
    plain = {"x": torch.zeros(2, 4, 3, dtype=torch.float64), "h": torch.zeros(2, 4, 2, dtype=torch.float64)}
    padding = (1 - condition["mask"][..., None]) * 5
    pushed = {"x": plain["x"] + 3 + padding, "h": plain["h"] + padding}
    ours = process.score_gap(plain, state, 0.5, condition)
    assert ours.shape == (2,) and torch.allclose(ours, process.score_gap(pushed, state, 0.5, condition))
    each = [fields[n].score_gap(plain[n], state[n], 0.5, condition) for n in ("x", "h")]
    assert torch.allclose(ours, each[0] + each[1])
    estimate = process.predict_x0({"x": pushed["x"], "h": pushed["h"]}, state, 0.5, condition)
    assert estimate["x"].sum(1).abs().max() < 1e-12 and torch.allclose(estimate["h"].sum(-1), condition["mask"])


# Which level


def level(u: float, measured: "float | None", predicted: "float | None" = 0.5) -> Level:
    shares = [None if s is None else Estimate(s, s - 0.05, s + 0.05) for s in (predicted, measured)]
    return Level(u, u, 0.0, None, shares[0], shares[1], None, 1 - u)


ZERO = Level(0.0, 0.0, None, EXACT, EXACT, EXACT, None, 1.0)


@pytest.mark.parametrize(
    ("levels", "right", "words"),
    [
        (
            [level(0.25, 0.97), level(0.5, 0.86), level(0.75, 0.84)],  # 0.84 is enough, its lower end is not
            0.5,
            "as re-rolled: 0.86 (95 % interval 0.81 to 0.91",
        ),
        ([level(0.25, 0.86), level(0.5, 0.3)], 0.25, "at least 0.8"),
        ([level(0.25, 0.8), level(0.5, 0.87)], 0.5, "largest"),  # not the first that falls short
        ([level(0.25, 0.84), level(0.5, 0.3)], 0.0, "none of 0.25, 0.5 is safe"),
        ([level(0.25, None, 0.95), level(0.5, None, 0.5)], 0.25, "as the fit predicts: 0.95"),
        ([level(0.25, 0.5, 0.95)], 0.0, "GRAFT"),  # re-rolling has the last word
    ],
)
def test_choice(levels: list[Level], right: float, words: str) -> None:
    found, why = select_level([ZERO, *levels], stochastic=True)
    assert found == right and words in why and why.startswith(f"level {right:g}: ") and "\n" not in why


def test_choice_for_an_ode() -> None:
    levels = [Level(u, u, 0.0, EXACT, EXACT, None, Estimate(9 - 8 * u, 1, 9), 1 - u) for u in (0.25, 0.5)]
    found, why = select_level([ZERO, *levels], stochastic=False)
    assert found == 0.5 and "by definition" in why and "learn" in why


def test_plan() -> None:
    assert LevelSearch().candidates_on_grid(24) == (0.125, 0.25, 0.375, 0.5, 0.625, 0.75)
    assert LevelSearch().candidates_on_grid(3) == (1 / 3, 2 / 3)
    assert LevelSearch((0.5, 0.3, 0.31)).candidates_on_grid(10) == (0.3, 0.5)
    for a_round in (2048, 8192):
        count = LevelSearch().num_draws(a_round, 128, 6)
        assert count % 128 == 0 and count * (1 + 6) + count // 4 * 6 < a_round  # reward calls
    assert LevelSearch().num_draws(64, 32, 6) == 64 and LevelSearch().num_draws(100, 32, 6) == 100
    assert LevelSearch(draws=50).num_draws(8192, 128, 6) == 50
    for wrong in ({"candidates": ()}, {"candidates": (0.0,)}, {"candidates": (1.0,)}, {"draws": 1}, {"n_bootstrap": 0}):
        with pytest.raises(GraftError, match=r"data\.level_search"):
            LevelSearch(**wrong)  # type: ignore[arg-type]
    with pytest.raises(GraftError, match="1 steps"):
        LevelSearch().candidates_on_grid(1)
