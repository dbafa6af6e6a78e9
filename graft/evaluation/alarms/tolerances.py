"""Tolerances: how far a statistic may be from the reference's value before it raises an alarm."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graft.core import limits
from graft.evaluation.alarms.statistics import Statistic

SETTING = "data.evaluation.alarms"
"""Setting of the alarms, for messages."""
METRIC = 0.25
"""Default tolerance of a metric of the domain, as a share of the reference's value."""
BANDS = {"internal_diversity": 0.25, "feature_distance": 0.25, "held_out": 0.5}
"""Default tolerances of the other statistics, in the units of `Alarms`.

The diversity may lose a quarter of the reference's value. The distribution may go a quarter of the way to a point mass.
The held-out reward may fall by half a standard deviation.
"""


@dataclass
class Alarms:
    """Settings of the alarms: the tolerance of each statistic, and the effect of an alarm.

    Args:
        tolerances: Tolerance by name of the statistic; ``null`` does not monitor it. For the domain's metrics and
            ``internal_diversity``, the tolerance is the share of the reference's value that may be lost (or gained if
            smaller is better; either if the metric does not say). For ``feature_distance``, the tolerance is the
            largest value; a point mass at one draw of the reference has 1. For ``held_out``, the tolerance is in
            standard deviations of the reference's held-out reward. The default is 0.25, and 0.5 for ``held_out``.
        z: Number of standard errors by which a statistic must be outside its tolerance. A statistic exactly at its
            tolerance exceeds 2 standard errors by chance in 3 % of rounds.
        stop_on_alarm: True to end the run at the first alarm, with the weights of the last round without an alarm.

    Raises:
        GraftError: A tolerance or ``z`` is negative.
    """

    tolerances: dict[str, "float | None"] = field(default_factory=dict)
    z: float = 2.0
    stop_on_alarm: bool = False

    def __post_init__(self) -> None:
        for name, tolerance in self.tolerances.items():
            limits.check(f"{SETTING}.tolerances.{name}", tolerance, 0)
        limits.check(f"{SETTING}.z", self.z, 0)

    def tolerance(self, name: str) -> "float | None":
        """Return the tolerance of a statistic; None if it is not monitored."""
        return self.tolerances.get(name, BANDS.get(name, METRIC))


@dataclass
class Alarm:
    """A statistic of a round's validation draws.

    Attributes:
        round: Number of the round, counted from 0.
        statistic: Name of the statistic.
        tuned: Value of the tuned model; None if it is undefined (all held-out rewards failed, features are not
            finite), which is an alarm.
        reference: Value of the reference, with the same noise.
        excess: Distance outside the tolerance; negative within the tolerance.
        stderr: Standard error of ``excess``, by the jackknife over both models, which share their noise.
        alarm: True if the excess is larger than ``z`` standard errors.
    """

    round: int
    statistic: str
    tuned: "float | None"
    reference: float
    excess: "float | None"
    stderr: "float | None"
    alarm: bool

    def __str__(self) -> str:
        start = f"round {self.round + 1}: {self.statistic.replace('_', ' ')}"
        if self.tuned is None:
            return f"{start} is undefined, and the reference has {self.reference:.4g}"
        return (
            f"{start} is {self.tuned:.4g}, the reference has {self.reference:.4g}, and the tolerance is exceeded by "
            f"{self.excess:.2g} ± {self.stderr:.1g}"
        )


def check_tolerances(
    settings: Alarms,
    number: int,
    tuned: Mapping[str, Statistic],
    reference: Mapping[str, Statistic],
    held_out_std: float = 1.0,
) -> list[Alarm]:
    """Return the `Alarm` of each statistic of a round, by name, whether or not it is an alarm.

    Args:
        settings: Tolerances.
        number: Number of the round, counted from 0.
        tuned: Statistics of the tuned model by name.
        reference: Statistics of the reference by name.
        held_out_std: Standard deviation of the reference's held-out reward.
    """
    out = []
    for name in reference:
        band = settings.tolerance(name)
        if band is None:
            continue
        if name not in tuned:
            out.append(Alarm(number, name, None, reference[name].value, None, None, True))
            continue
        ours, theirs = tuned[name], reference[name]
        value = torch.tensor([ours.value], dtype=torch.float64)
        own = torch.tensor([theirs.value], dtype=torch.float64)
        excess = float(_excess(name, value, own, ours.direction, band, held_out_std))
        replicates = _excess(name, ours.leave_one_out, theirs.leave_one_out, ours.direction, band, held_out_std)
        parts = len(replicates)
        stderr = float(((parts - 1) / parts * (replicates - replicates.mean()).square().sum()).sqrt())
        alarm = excess > settings.z * stderr + 1e-12  # so that rounding raises no alarm
        out.append(Alarm(number, name, ours.value, theirs.value, excess, stderr, alarm))
    return sorted(out, key=lambda each: each.statistic)


def _excess(name: str, value: Tensor, own: Tensor, direction: int, band: float, held_out_std: float) -> Tensor:
    if name == "feature_distance":
        return value - band
    allowed = band * (held_out_std if name == "held_out" else own.abs())
    return (own - value).abs() - allowed if direction == 0 else direction * (own - value) - allowed
