"""95 % t intervals of means over seeds or runs, paired differences, and their p-values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

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


def paired_p_value(values: Mapping[int, float], baseline: Mapping[int, float]) -> "float | None":
    """Return the two-sided p-value of the paired t test that value and baseline have equal means.

    The result is None for fewer than two common seeds, or if all differences are equal.

    Args:
        values: Value by seed.
        baseline: Value of the baseline by seed.
    """
    difference = paired_difference(values, baseline)
    if difference is None or not difference.half:
        return None
    error = difference.half / float(stdtrit(difference.n - 1, (1 + CONFIDENCE) / 2))
    return 2 * float(stdtr(difference.n - 1, -abs(difference.mean) / error))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number (Holm 1979), in the order given.

    Rejecting all that are at most α wrongly rejects any true hypothesis with a probability of at most α.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    out, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        out[i] = largest
    return out
