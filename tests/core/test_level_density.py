"""The levels that training samples."""

import math

import pytest
import torch
from scipy import stats

from domains.molecules import Molecules
from domains.molecules.backbone import EGNN
from graft.core import seeding
from graft.core.interval import Interval
from graft.errors import GraftError
from graft.policy import Tuning
from graft.process import Gaussian, MaskProjection, MultiFieldProcess, ZeroCenterOfMass
from graft.process.schedules import PolynomialSchedule


@pytest.mark.parametrize("lowest", [0.0, 0.25])
def test_the_distribution_of_the_levels(lowest):
    """One level in each of n equal parts: no quantile is off by more than 1/n, so the distance needs no luck."""
    even = seeding.stratified_levels(2000, Interval(low=lowest), seeding.make_generator(0, "levels"))
    moved = seeding.logit_normal(even, Interval(low=lowest), -0.5, 1.2)
    share = ((moved - lowest) / (1 - lowest)).numpy()
    assert lowest < moved.min() and moved.max() <= 1
    found = stats.kstest(share, lambda s: stats.norm.cdf((torch.logit(torch.as_tensor(s)).numpy() + 0.5) / 1.2))
    assert found.statistic <= 1 / 2000 + 1e-6
    assert seeding.logit_normal(torch.ones(1, dtype=torch.float64), Interval(low=lowest), 0.0, 1.0).item() == 1


def module(**settings):
    x = Gaussian(PolynomialSchedule(), "x0", [4, 3], projection=ZeroCenterOfMass())
    h = Gaussian(PolynomialSchedule(), "logits", [4, 10], projection=MaskProjection())
    return Molecules(EGNN(10, hidden_dim=8, num_layers=1), MultiFieldProcess({"x": x, "h": h}), **settings)


def test_levels_follow_the_timestep_sampler():
    settings: tuple[dict, dict] = {}, {"tuning": Tuning(timestep_sampler=(0.0, 1.0))}
    even, concentrated = (module(**each).policy.sample_levels(500, seeding.make_generator(0, "a")) for each in settings)
    assert torch.equal(even, seeding.stratified_levels(500, Interval(), seeding.make_generator(0, "a")))
    assert concentrated.std().item() == pytest.approx(0.2083, abs=2e-3) and even.std().item() == pytest.approx(
        1 / math.sqrt(12), abs=2e-3
    )
    with pytest.raises(GraftError, match=r"the spread of model\.tuning\.timestep_sampler is 0"):
        module(tuning=Tuning(timestep_sampler=(0.0, 0.0)))
