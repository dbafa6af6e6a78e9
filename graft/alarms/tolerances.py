"""How far a statistic may go from the reference's own before it is an alarm."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from graft.alarms.statistics import Statistic
from graft.errors import GraftError

METRIC = 0.25
BANDS = {"internal_diversity": 0.25, "feature_distance": 0.25, "held_out": 0.5}
"""Default bands. The domain's metrics and the diversity may lose a quarter of the reference's value: molecules that are
tuned well lose less than a sixth of their uniqueness, a collapse loses most, and the error of 512 draws is a tenth of
the band. The law may go a quarter of the way to a single draw: the best eighth of molecules lies at 0.07, the best 16
of 1024 at 0.21, molecules none of which is valid at 0.38. A reward that was held out may fall by half a standard
deviation."""


@dataclass
class Alarms:
    """Which statistics are watched, and what an alarm does.

    Args:
        tolerances: Width of a statistic's band by its name, ``null`` to leave it out. For the domain's metrics and
            ``internal_diversity`` the share of the reference's value that may be lost (or gained, where smaller is
            better; either, where the metric does not say); for ``feature_distance`` its largest value, where 1 is as
            far from the reference's law as a single one of its draws; for ``held_out`` standard deviations of the
            reference's held-out reward. Those not given have 0.25, and ``held_out`` 0.5.
        z: Standard errors by which a statistic must be beyond its band. At the very edge of the band, 2 are passed
            by chance in 3 % of rounds for each statistic.
        stop_on_alarm: End the run at the first alarm, with the weights of the last round without one.
    """

    tolerances: dict[str, "float | None"] = field(default_factory=dict)
    z: float = 2.0
    stop_on_alarm: bool = False

    def __post_init__(self) -> None:
        for name, band in self.tolerances.items():
            if band is not None and not band >= 0:
                raise GraftError(f"the band of {name} is {band:g}, but it must be at least 0, or null for no alarm")
        if not self.z >= 0:
            raise GraftError(f"data.alarms.z is {self.z:g}, but it must be at least 0")

    def band(self, name: str) -> "float | None":
        """Width of a statistic's band."""
        return self.tolerances.get(name, BANDS.get(name, METRIC))


@dataclass
class Alarm:
    """A statistic of a round's validation draws.

    Attributes:
        round: Counted from 0.
        statistic: Its name.
        tuned: Of the tuned model; None where it cannot be told (all held-out rewards failed, features are not finite),
            which is an alarm.
        reference: Of the reference, with the same noise.
        excess: How far it is beyond the end of its band; negative within it.
        stderr: Of ``beyond``, by the jackknife: the noise that both share does not count.
        alarm: It is beyond by more than its errors.
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
            return f"{start} cannot be told any more, the reference's is {self.reference:.4g}"
        return (
            f"{start} is {self.tuned:.4g} and the reference's {self.reference:.4g}, beyond its band by "
            f"{self.excess:.2g} ± {self.stderr:.1g}"
        )


def check_tolerances(
    settings: Alarms,
    number: int,
    tuned: Mapping[str, Statistic],
    reference: Mapping[str, Statistic],
    held_out_std: float = 1.0,
) -> list[Alarm]:
    """What each statistic of the reference says of round ``number``; ``held_out_std`` is the reference's deviation."""
    out = []
    for name in reference:
        band = settings.band(name)
        if band is None:
            continue
        if name not in tuned:
            out.append(Alarm(number, name, None, reference[name].value, None, None, True))
            continue
        ours, theirs = tuned[name], reference[name]
        value = torch.tensor([ours.value], dtype=torch.float64)
        own = torch.tensor([theirs.value], dtype=torch.float64)
        beyond = float(_beyond(name, value, own, ours.direction, band, held_out_std))
        replicates = _beyond(name, ours.leave_one_out, theirs.leave_one_out, ours.direction, band, held_out_std)
        parts = len(replicates)
        stderr = float(((parts - 1) / parts * (replicates - replicates.mean()).square().sum()).sqrt())
        alarm = beyond > settings.z * stderr + 1e-12  # rounding is no alarm
        out.append(Alarm(number, name, ours.value, theirs.value, beyond, stderr, alarm))
    return sorted(out, key=lambda each: each.statistic)


def _beyond(name: str, value: Tensor, own: Tensor, direction: int, band: float, held_out_std: float) -> Tensor:
    if name == "feature_distance":
        return value - band
    allowed = band * (held_out_std if name == "held_out" else own.abs())
    return (own - value).abs() - allowed if direction == 0 else direction * (own - value) - allowed
