"""Interval: the part of the sampler's clock that the tuned network samples."""

from dataclasses import dataclass

from graft.errors import GraftError
from graft.sampler import nearest_level


@dataclass(frozen=True)
class Interval:
    """A part of the clock, from level ``high`` down to level ``low``.

    The tuned network samples within it. The frozen reference samples above ``high`` and below ``low``.

    Args:
        low: u*, the level at which the tuned network hands over to the reference; 0 is GRAFT, a level above 0 P-GRAFT.
            1 is the noise itself, which a corrector shapes.
        high: The level at which the tuned network takes over from the reference.
    """

    low: float = 0.0
    high: float = 1.0


def tuned_interval(level: float, high: float, steps: int, corrector: bool = False) -> Interval:
    """Return the interval from ``high`` down to a level, moved to the nearest step of the sampler.

    Args:
        level: ``model.level``.
        high: ``model.upper_level`` on the grid, as `upper_level_on_grid` returns it.
        steps: Number of sampler steps.
        corrector: True if a corrector shapes the noise; the interval is then level 1 alone.

    Raises:
        GraftError: The level is outside its range, or the interval contains no step.
    """
    if corrector != (level == 1):
        raise GraftError(
            f"model.level is {level:g}, but level 1, the noise, goes with a model.corrector and a level in [0, 1) "
            "without one"
        )
    if corrector:
        return Interval(1.0, 1.0)
    if not 0 <= level < 1:
        raise GraftError(f"model.level is {level:g}, but a level is a fraction of the steps in [0, 1)")
    low = nearest_level(level, steps)
    if low == 1:
        raise GraftError(f"model.level {level:g} is level 1 with {steps} steps: nothing would be tuned")
    if low >= high:
        raise GraftError(
            f"model.level {level:g} is not below model.upper_level {high:g} with {steps} steps: nothing is tuned"
        )
    return Interval(low, high)


def upper_level_on_grid(upper_level: float, steps: int, corrector: bool = False) -> float:
    """Return ``model.upper_level`` moved to the nearest step.

    Raises:
        GraftError: ``upper_level`` is not in (0, 1], or is below 1 with a corrector.
    """
    if not 0 < upper_level <= 1 or (corrector and upper_level < 1):
        raise GraftError(
            f"model.upper_level is {upper_level:g}, but the tuned network takes over at a level in (0, 1], "
            "and a corrector at 1"
        )
    return nearest_level(upper_level, steps)
