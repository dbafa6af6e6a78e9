"""Alarms: statistics and their errors where both are known, the rate of false alarms, and a collapse."""

import math

import pytest
import torch
from exact import f64
from torchmetrics import MeanMetric, Metric

from graft.errors import GraftError
from graft.evaluation.alarms import Alarms, SampleSet, Statistic, check_tolerances, statistics


class Share(Metric):
    """The share of positive items."""

    full_state_update = False
    higher_is_better = True

    def __init__(self) -> None:
        super().__init__()
        self.add_state("some", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("all", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, items: list[float]) -> None:
        self.some += sum(item > 0 for item in items)
        self.all += len(items)

    def compute(self) -> torch.Tensor:
        return self.some / self.all


class Unmerged(Share):
    """The same, of which torchmetrics does not know that parts may be merged."""

    full_state_update = None
    higher_is_better = False


class Unmonitored(Share):
    """Shown and not monitored."""

    monitored = False


class Parts(Share):
    """Not one number."""

    def compute(self) -> dict:
        return {"some": self.some, "all": self.all}


def metrics() -> dict[str, Metric]:
    return {
        "share": Share(),
        "unmerged": Unmerged(),
        "mean": MeanMetric(),
        "parts": Parts(),
        "unmonitored": Unmonitored(),
    }


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def draws(x: torch.Tensor) -> SampleSet:
    return SampleSet(x[:, 0].tolist(), x, x[:, -1])


def test_what_is_left_without_each_part() -> None:
    """Every kind of statistic, without one part, equals the statistic of the other draws."""
    x, y = normal(64, 3, 0), normal(64, 3, 1) + 0.3
    found = statistics(draws(y), draws(x), metrics)
    assert set(found) == {"share", "unmerged", "mean", "internal_diversity", "feature_distance", "held_out"}
    assert [found[name].direction for name in ("share", "unmerged", "mean", "held_out")] == [1, -1, 0, 1]
    keep = torch.arange(64) % 20 != 7
    less = statistics(draws(y[keep]), draws(x[keep]), metrics)
    for name in ("share", "unmerged", "mean", "internal_diversity", "held_out"):
        assert float(found[name].leave_one_out[7]) == pytest.approx(less[name].value), name
    # the distance is in units of the whole reference's spread
    far = found["feature_distance"]
    assert float(far.leave_one_out[7]) == pytest.approx(less["feature_distance"].value, rel=0.2)
    assert set(statistics(draws(y), draws(x), metrics, ["mean", "feature_distance"])) == {*found} - {
        "mean",
        "feature_distance",
    }


def test_errors() -> None:
    """The jackknife's error of a mean is its standard error, and what the noise shares does not count."""
    n = 4000
    x, noise = normal(n, 1, 0)[:, 0], normal(n, 1, 1)[:, 0]
    reference, tuned = (SampleSet([0.0] * n, None, r) for r in (x, x - 1 + 0.1 * noise))
    (checks,) = check_tolerances(
        Alarms({"held_out": 0.0}),
        0,
        statistics(tuned, reference, dict),
        statistics(reference, reference, dict),
    )
    assert checks.alarm and checks.excess == pytest.approx(1, abs=0.01)
    assert checks.stderr == pytest.approx(0.1 / math.sqrt(n), rel=0.5)  # not sqrt(2 / n)


@pytest.mark.parametrize("coupled", [True, False])
def test_false_alarms(coupled: bool) -> None:
    """At the edge of the tolerance (0, one distribution) 3.0 % of rounds exceed 2 errors (t, 19 degrees of freedom).

    Of 1200 within four standard errors of that; within the default band in none.
    """
    edge, default, repeats, raised = Alarms({"held_out": 0.0}), Alarms(), 1200, 0
    for i in range(repeats):
        x, z = normal(128, 1, 2 * i)[:, 0], normal(128, 1, 2 * i + 1)[:, 0]
        reference, tuned = (SampleSet([0.0] * 128, None, w) for w in (x, 0.6 * x + 0.8 * z if coupled else z))
        own, found = (statistics(w, reference, dict) for w in (reference, tuned))
        raised += check_tolerances(edge, 0, found, own, 1.0)[0].alarm
        assert not check_tolerances(default, 0, found, own, 1.0)[0].alarm
    assert abs(raised / repeats - 0.030) < 4 * (0.03 * 0.97 / repeats) ** 0.5


def test_false_alarms_of_a_share() -> None:
    """The rate of a metric with merged parts is within four standard errors of 3.0 %, apart from rounding of counts."""
    raised, repeats = 0, 200
    for i in range(repeats):
        own, found = (
            statistics(
                SampleSet((normal(256, 1, 2 * i + k)[:, 0] + 0.5).tolist()), SampleSet([]), lambda: {"share": Share()}
            )
            for k in (0, 1)
        )
        raised += check_tolerances(Alarms({"share": 0.0}), 0, found, own)[0].alarm
        assert not check_tolerances(Alarms(), 0, found, own)[0].alarm
    assert raised / repeats < 0.030 + 4 * (0.03 * 0.97 / repeats) ** 0.5


def test_the_reference_itself_raises_none() -> None:
    """Every statistic, with the same draws: nothing is beyond, even with bands of no width."""
    x = normal(100, 3, 0)
    names = ["share", "unmerged", "mean", "internal_diversity", "feature_distance", "held_out"]
    reference = draws(x)
    own = statistics(reference, reference, metrics)
    checks = check_tolerances(Alarms(dict.fromkeys(names, 0.0)), 0, statistics(draws(x), reference, metrics), own)
    assert sorted(each.statistic for each in checks) == sorted(names) and not any(each.alarm for each in checks)
    assert abs(own["feature_distance"].value) < 0.1  # of two halves


def test_collapse() -> None:
    """One draw, over and over: no diversity, and as far from the reference as a single draw of it, 1 on average."""
    x = normal(256, 4, 0)
    reference = draws(x)
    own = statistics(reference, reference, metrics)
    far = []
    for i in range(40):
        found = statistics(draws(x[i : i + 1].repeat(256, 1)), reference, metrics)
        far.append(found["feature_distance"].value)
        checks = {each.statistic: each for each in check_tolerances(Alarms(), 3, found, own)}
        assert checks["internal_diversity"].alarm and found["internal_diversity"].value == 0
        assert "round 4: internal diversity is 0, the" in str(checks["internal_diversity"])
    assert sum(far) / 40 == pytest.approx(1, abs=0.25)


def test_directions() -> None:
    """A fall, a rise, or either; a distance has one end; a tolerance may be absent."""

    def checks(name: str, value: float, direction: int, band: "float | None", own: float = 0.8) -> bool:
        spread = f64([-1e-4, 1e-4])
        found = check_tolerances(
            Alarms({name: band}),
            0,
            {name: Statistic(value, value + spread, direction)},
            {name: Statistic(own, own + 0 * spread, direction)},
            2.0,
        )
        return any(each.alarm for each in found)

    assert (
        checks("validity", 0.5, 1, 0.25)
        and not checks("validity", 0.65, 1, 0.25)
        and not checks("validity", 1.0, 1, 0.25)
    )
    assert checks("clashes", 1.1, -1, 0.25) and not checks("clashes", 0.1, -1, 0.25)
    assert checks("size", 1.1, 0, 0.25) and checks("size", 0.5, 0, 0.25) and not checks("size", 0.9, 0, 0.25)
    assert checks("feature_distance", 0.3, -1, 0.25) and not checks("feature_distance", 0.2, -1, 0.25, own=0.0)
    assert checks("held_out", -0.3, 1, 0.5) and not checks("held_out", -0.1, 1, 0.5)  # half of a deviation of 2
    assert not checks("validity", 0.0, 1, None)
    assert not checks("validity", 0.6 - 1e-4, 1, 0.25)  # beyond by less than its error


def test_too_few_rounds_give_no_alarm() -> None:
    """A held-out reward that failed for all, features that are all alike, a handful of draws."""
    x = normal(10, 2, 0)
    nothing = SampleSet([0.0] * 10, torch.ones(10, 2), torch.full((10,), math.nan))
    assert set(statistics(nothing, nothing, dict)) == {"internal_diversity"}
    assert nothing.held_out_std == 0
    broken = SampleSet([0.0] * 10, torch.full((10, 2), math.nan), torch.full((10,), math.nan))
    own = statistics(draws(x), draws(x), dict)
    checks = check_tolerances(Alarms(), 0, statistics(broken, draws(x), dict), own)
    assert {each.statistic for each in checks if each.alarm} == {"internal_diversity", "feature_distance", "held_out"}
    assert "round 1: held out is undefined" in [str(each).split(",")[0] for each in checks]
    assert statistics(SampleSet([1.0], x[:1]), SampleSet([1.0], x[:1]), lambda: {"share": Share()}) == {}
    for wrong in (lambda: Alarms({"validity": -1.0}), lambda: Alarms(z=-1.0)):
        with pytest.raises(GraftError, match="at least 0"):
            wrong()
