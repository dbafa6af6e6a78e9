"""95 % t intervals of means over seeds or runs, and paired differences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its 95 % t interval.

    Attributes:
        mean: Mean of the values.
        half: Half the width of the interval; None for a single value.
        n: Number of values.
    """

    mean: float
    half: "float | None"
    n: int


def mean_interval(values: Sequence[float]) -> "MeanInterval | None":
    """Return the mean of independent values with its interval; None for no values.

    The half width is t(n − 1) · s / √n (Student 1908).
    """
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return MeanInterval(mean, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return MeanInterval(mean, float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(n), n)


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> "MeanInterval | None":
    """Return the mean of value − baseline over common seeds, with its interval.

    Runs of one seed share noise and conditions, so that the interval of the difference is narrower than that of either.
    The result is None if no seed is in both.

    Args:
        values: Value by seed.
        baseline: Value of the baseline by seed.
    """
    return mean_interval([values[seed] - baseline[seed] for seed in values if seed in baseline])
