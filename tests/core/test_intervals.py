"""Intervals and paired differences against known answers."""

import math

import pytest
import torch
from scipy import stats

from graft.evaluation.confidence import mean_interval, paired_difference


def test_t_interval() -> None:
    """Student's own table: t(0.975, 2) = 4.303, and so on."""
    found = mean_interval([1.0, 2.0, 3.0])
    assert found is not None and found.mean == 2 and found.n == 3
    assert found.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    values = torch.randn(7, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    low, high = stats.t.interval(0.95, 6, loc=stats.tmean(values), scale=stats.sem(values))
    found = mean_interval(values)
    assert found is not None and found.half is not None
    assert (found.mean - found.half, found.mean + found.half) == pytest.approx((low, high), rel=1e-12)


def test_few_values() -> None:
    assert mean_interval([]) is None
    one = mean_interval([2.5])
    assert one is not None and (one.mean, one.half, one.n) == (2.5, None, 1)
    same = mean_interval([2.0, 2.0])
    assert same is not None and same.half == 0


def test_the_interval_covers() -> None:
    """The interval has its stated coverage, also for three values."""
    draws = torch.randn(2000, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inside = 0
    for row in draws.tolist():
        found = mean_interval(row)
        assert found is not None and found.half is not None
        inside += abs(found.mean) <= found.half
    assert inside / 2000 == pytest.approx(0.95, abs=0.015)


def test_paired_difference() -> None:
    """Effects that the seeds share cancel; seeds that one side lacks do not count."""
    found = paired_difference({0: 11.0, 1: 22.0, 2: 33.0, 9: 1e6}, {0: 10.0, 1: 20.0, 2: 30.0, 4: -1e6})
    assert found == mean_interval([1.0, 2.0, 3.0])
    t, _ = stats.ttest_rel([11, 22, 33], [10, 20, 30])
    assert found is not None and found.half is not None
    assert found.mean / (found.half / stats.t.ppf(0.975, 2)) == pytest.approx(t, rel=1e-9)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
