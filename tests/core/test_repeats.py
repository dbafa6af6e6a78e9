"""Repeated steps: the distribution stays, the fixed part is exact, and the rest adapts to it."""

import pytest
import torch
from exact import Exact, f64, normal, rows
from torch import Tensor

from graft.core.interval import Interval
from graft.core.state import Condition
from graft.process import CosineSchedule, Gaussian, LinearSchedule
from graft.sampler import Stage, run_stages

DISTRIBUTION = normal(f64([0.5, -1.0]), f64([[0.3, 0.18], [0.18, 0.2]]))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_distribution_stays(repeats: int) -> None:
    """4000 draws: a mean is off by 4 standard errors, 0.035, with probability below 1e-4."""
    p = Gaussian(LinearSchedule(), "velocity", (2,))
    drawn = run_stages([Stage(p, Exact(p, DISTRIBUTION))], rows(4000), 60, generator=seeded(), repeats=repeats)
    mean, cov = DISTRIBUTION.moments()
    assert (drawn.state.mean(0) - mean).abs().max() < 0.035
    assert (drawn.state.T.cov() - cov).abs().max() < 0.04
    assert drawn.denoiser_calls == 59 * repeats + 1


def test_a_stage_with_its_own_clock_and_an_inversion_are_walked_once() -> None:
    p = Gaussian(LinearSchedule(), "velocity", (2,), eta=0)
    model = Exact(p, DISTRIBUTION)
    assert run_stages([Stage(p, model, steps=7)], rows(2), 10, generator=seeded(), repeats=4).denoiser_calls == 7
    up = run_stages(
        [Stage(p, model, Interval(low=0.5), upwards=True)],
        rows(2),
        40,
        state=torch.zeros(2, 2, dtype=torch.float64),
        repeats=4,
    )
    once = run_stages(
        [Stage(p, model, Interval(low=0.5), upwards=True)], rows(2), 40, state=torch.zeros(2, 2, dtype=torch.float64)
    )
    assert torch.equal(up.state, once.state) and up.denoiser_calls == once.denoiser_calls


def test_what_is_given_draws_the_rest_to_it() -> None:
    """The first coordinate is fixed: the mean of the second is that of the conditional, -1 + 0.6 (1.3 - 0.5)."""
    p = Gaussian(CosineSchedule(), "x0", (2,))
    exact = Exact(p, DISTRIBUTION)

    def with_known_part(state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        output = exact(state, time, condition).clone()
        output[:, 0] = 1.3
        return output

    gaps = []
    for repeats in (1, 4, 16):
        drawn = run_stages([Stage(p, with_known_part)], rows(4000), 30, generator=seeded(), repeats=repeats).state
        assert torch.allclose(drawn[:, 0], torch.full_like(drawn[:, 0], 1.3), atol=1e-9)
        gaps.append(abs(float(drawn[:, 1].mean()) - (-1 + 0.6 * 0.8)))
    assert gaps[0] > gaps[1] > gaps[2] and gaps[2] < 0.1, gaps
