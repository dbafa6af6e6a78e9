"""Over seeds: means with 95 % t intervals, and differences of what shares its seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class MeanInterval:
    """A mean over seeds and half of its 95 % t interval, which takes at least two of them; ``n`` says how many."""

    mean: float
    half: "float | None"
    n: int


def mean_interval(values: Sequence[float]) -> "MeanInterval | None":
    """The mean of independent values, and t(n − 1) · s / √n (Student 1908); None where there are none."""
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return MeanInterval(mean, None, 1)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    return MeanInterval(mean, float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * deviation / math.sqrt(n), n)


def paired_difference(values: Mapping[int, float], baseline: Mapping[int, float]) -> "MeanInterval | None":
    """The mean of value − baseline over the seeds that both have, which have the same noise and conditions."""
    return mean_interval([values[seed] - baseline[seed] for seed in values if seed in baseline])
