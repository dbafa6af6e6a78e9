"""Data carried back through a frozen flow: closed forms, known noise, and samples that have no noise."""

import pytest
import torch
from exact import Exact, f64, normal, rows
from test_inversion import DISTRIBUTION, coupled, mixing, seeded
from torch import Tensor
from torch.autograd import forward_ad

from graft.commands.correct.invert import DeterministicSampler, invert, recovery_error
from graft.core.state import Condition
from graft.errors import InversionError
from graft.process import Gaussian
from graft.process import LinearSchedule as Straight
from graft.solvers import Euler, Heun, Midpoint
from graft.solvers.fixed_point import Anderson, Newton

PROCESS = Gaussian(Straight(), "velocity", (2,), eta=0.0)
SOLVERS = {"euler": Euler(), "heun": Heun(), "midpoint": Midpoint()}
METHODS = {"fixed point": Anderson(iterations=500, memory=1), "anderson": Anderson(), "newton": Newton()}


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_linear_flow_in_closed_form(method, solver) -> None:
    """For N(0, s² 1) the flow is x ↦ c x, so the noise is x / c and the gain 1 / c."""
    for spread in (0.2, 2.0):
        flow = DeterministicSampler(
            PROCESS, Exact(PROCESS, normal(f64([0.0, 0.0]), spread**2 * torch.eye(2).double())), solver, 6
        )
        c = float(flow.sample(f64([[1.0, 0.0]]), rows(1))[0, 0])
        data = spread * torch.randn(20, 2, dtype=torch.float64, generator=seeded())
        found = invert(flow, data, rows(20), method, seeded(1))
        assert found.solved.all() and (found.stopped == 1).all()
        assert torch.allclose(found.noise, data / c, rtol=1e-9)
        assert torch.allclose(found.noise_gain, torch.full_like(found.noise_gain, 1 / c), rtol=1e-6)
        assert (found.round_trip < 1e-10).all()
        assert [step.reached for step in found.steps] == 6 * [20] and not any(step.not_inverted for step in found.steps)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_known_noise_of_a_mixture(solver) -> None:
    flow = DeterministicSampler(PROCESS, Exact(PROCESS, DISTRIBUTION), solver, 16)
    error, found = recovery_error(flow, rows(64), Anderson(), seeded())
    assert found.solved.all() and error.max() < 1e-8 and found.round_trip.max() < 1e-9
    assert (found.noise_gain > 0).all()


def test_dict_state() -> None:
    process, condition = coupled()
    error, found = recovery_error(DeterministicSampler(process, mixing, Euler(), 30), condition, Newton(), seeded())
    assert found.solved.all() and error.max() < 1e-9


def square(x: Tensor, time: Tensor, condition: Condition) -> Tensor:
    """A velocity whose Euler step, x − h x², has no value above 1 / (4 h)."""
    return x**2


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_what_has_no_noise_is_counted_where_it_stops(method) -> None:
    """The first step up solves h x² − x + y = 0, which is real for y <= 1 / (4 h); so do the next steps."""
    process = Gaussian(Straight(), "velocity", (1,), eta=0.0)
    flow, h = DeterministicSampler(process, square, Euler(), 4), 0.25
    data = f64([[-0.5], [0.1], [0.3], [0.8], [1.5], [-2.0]])

    def up(y: float, steps: int = 0) -> int:
        """Steps that can be undone."""
        if steps == 4 or y > 1 / (4 * h):
            return steps
        return up((1 - (1 - 4 * h * y) ** 0.5) / (2 * h), steps + 1)

    expected = [up(float(y)) for y in data]
    assert len(set(expected)) > 2  # the last step is undone, and one before, and none
    found = invert(flow, data, rows(6), method, seeded())
    assert [round(float(s) * 4) for s in found.stopped] == expected
    assert torch.equal(found.solved, found.stopped == 1)
    assert found.round_trip[~found.solved].isinf().all() and (found.round_trip[found.solved] < 1e-9).all()
    assert found.noise_gain[~found.solved].isnan().all() and found.noise_gain[found.solved].isfinite().all()
    assert [step.not_inverted for step in found.steps] == [expected.count(i) for i in range(4)]
    assert [step.reached for step in found.steps] == [sum(e >= i for e in expected) for i in range(4)]


def test_two_noises_of_one_sample() -> None:
    """One step x − x² maps z and 1 − z to the same point: the round trip accepts both, known noise does not.

    Of N(0, 1) the share above 1/2, whose other noise is nearer to the data, is 0.309; 2000 draws are off by less than
    0.04 but once in ten thousand.
    """
    flow = DeterministicSampler(Gaussian(Straight(), "velocity", (1,), eta=0.0), square, Euler(), 1)
    error, found = recovery_error(flow, rows(2000), Newton(), seeded())
    assert found.solved.double().mean() > 0.98 and (found.round_trip[found.solved] < 1e-6).all()
    assert abs(float((error > 1e-3).double().mean()) - 0.309) < 0.04


def test_float32_network_and_noise() -> None:
    exact = Exact(PROCESS, DISTRIBUTION)
    flow = DeterministicSampler(PROCESS, lambda x, t, c: exact(x.double(), t, c).float(), Euler(), 16)
    error, found = recovery_error(flow, {"row": torch.zeros(32)}, Anderson(), seeded())
    assert found.solved.all() and error.max() < 1e-2 and found.round_trip.max() < 1e-3


class Tallied:
    """Count the samples that a network is called for, and those with a derivative."""

    def __init__(self, model) -> None:
        self.model, self.plain, self.tangents = model, 0, 0

    def __call__(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        self.plain += len(state)
        self.tangents += len(state) * (forward_ad.unpack_dual(state).tangent is not None)
        return self.model(state, time, condition)


@pytest.mark.parametrize("solver", [*SOLVERS.values(), Heun(evaluate_at_zero=False)], ids=[*SOLVERS, "heun to Euler"])
@pytest.mark.parametrize("method", [Anderson(iterations=40, memory=1), Anderson(), Newton()], ids=METHODS)
def test_every_network_call_is_counted(method, solver) -> None:
    """The search, the perturbed copies and the round trip; a derivative costs what another call does."""
    tallied = Tallied(Exact(PROCESS, DISTRIBUTION))
    flow = DeterministicSampler(PROCESS, tallied, solver, 2)
    found = invert(flow, DISTRIBUTION.sample(4, seeded()), rows(4), method, seeded(1))
    assert (tallied.tangents > 0) == isinstance(method, Newton)
    assert found.calls == tallied.plain + tallied.tangents
    if solver.denoiser_calls(1) == solver.denoiser_calls(2) / 2:  # all steps cost the same
        one, two = solver.denoiser_calls(1), solver.denoiser_calls(2)
        calls = int(found.evaluations.sum()) * one + int(found.solved.sum()) * two
        assert found.calls == calls
    tallied.plain = tallied.tangents = 0
    _, known = recovery_error(flow, rows(4), method, seeded(2))
    assert known.calls == tallied.plain + tallied.tangents


def test_stochastic_flow() -> None:
    stochastic = Gaussian(Straight(), "velocity", (2,), eta=1.0)
    with pytest.raises(InversionError, match="eta=0"):
        invert(
            DeterministicSampler(stochastic, Exact(stochastic, DISTRIBUTION), Euler(), 4),
            torch.zeros(2, 2).double(),
            rows(2),
            Anderson(),
        )
