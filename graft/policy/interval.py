"""The interval of the tuned network, from the settings ``model.level`` and ``model.upper_level``."""

from graft.core.interval import Interval
from graft.errors import GraftError
from graft.sampler import nearest_level


def tuned_interval(level: float, high: float, steps: int) -> Interval:
    """Return the interval from ``high`` down to a level, moved to the nearest step of the sampler.

    Args:
        level: ``model.level``.
        high: ``model.upper_level`` on the grid, as `upper_level_on_grid` returns it.
        steps: Number of sampler steps.

    Raises:
        GraftError: The level is outside its range, or the interval contains no step.
    """
    if not 0 <= level < 1:
        raise GraftError(
            f"model.level is {level:g}; it must be a fraction of the steps in [0, 1). To shape the noise itself, give "
            "model.corrector and leave out model.level."
        )
    low = nearest_level(level, steps)
    if low == 1:
        raise GraftError(f"model.level {level:g} is level 1 with {steps} steps: nothing would be tuned")
    interval = Interval(low, high)
    if interval.is_empty:
        raise GraftError(
            f"model.level {level:g} is not below model.upper_level {high:g} with {steps} steps: nothing is tuned"
        )
    return interval


def upper_level_on_grid(upper_level: float, steps: int) -> float:
    """Return ``model.upper_level`` moved to the nearest step.

    Raises:
        GraftError: ``upper_level`` is not in (0, 1].
    """
    if not 0 < upper_level <= 1:
        raise GraftError(f"model.upper_level is {upper_level:g}; it must be in (0, 1]")
    return nearest_level(upper_level, steps)


def check_corrector_interval(level: "float | str", upper_level: float) -> None:
    """Raise GraftError if a level is set next to a corrector.

    The reference samples the whole clock after a corrector, so no level divides it.
    """
    for name, value, unset in (("level", level, 0), ("upper_level", upper_level, 1)):
        if value != unset:
            text = repr(value) if isinstance(value, str) else f"{value:g}"
            raise GraftError(
                f"model.{name} is {text}, but model.corrector shapes the noise and the reference samples every level: "
                f"leave out model.{name}"
            )
