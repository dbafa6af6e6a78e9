"""Interval: a part of the clock of a process."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A part of a clock, from level ``high`` down to level ``low``; the whole clock by default.

    Args:
        low: Lower end.
        high: Upper end.
    """

    low: float = 0.0
    high: float = 1.0

    @property
    def is_whole(self) -> bool:
        """True if the interval is the whole clock."""
        return self == Interval()

    @property
    def is_empty(self) -> bool:
        """True if no step of a sampler lies in the interval."""
        return self.low >= self.high

    def above(self, level: float) -> "Interval":
        """Return the part above a level."""
        return Interval(max(self.low, level), self.high)

    def below(self, level: float) -> "Interval":
        """Return the part below a level."""
        return Interval(self.low, min(self.high, level))
