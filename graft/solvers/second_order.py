r"""Runge-Kutta methods of second order, with two network calls per step.

Every Gaussian process's deterministic sampler is the straight flow

.. math:: dy / d\tau = E[\epsilon - x_0 \mid x], \qquad
    y = x / (\alpha + \sigma), \quad \tau = \sigma / (\alpha + \sigma),

and DDIM's step is Euler's step of it (`Process.ode_velocity`, `Process.ode_step`). A second slope is taken after the
share a of the step, measured in :math:`\tau` and not on the clock u, so that the step does not depend on the schedule
or the warp:

.. math:: y' = y + \Delta\tau \Big( \big(1 - \tfrac{1}{2a}\big) k_1 + \tfrac{1}{2a} k_2 \Big), \qquad
    k_1 = f(y, \tau), \quad k_2 = f(y + a \Delta\tau\, k_1, \tau + a \Delta\tau).

In a process of several fields each field has a :math:`\tau` of its own. The level of the second slope is that of the
first field. The weight of a field comes from the share that its own :math:`\tau` has covered at that level.
"""

import copy

import torch
from scipy.optimize import brentq
from torch import Generator, Tensor
from typing_extensions import override

from graft.core import limits
from graft.core.state import State, apply
from graft.errors import GraftError
from graft.process import MultiFieldProcess, Process
from graft.solvers.base import BoundModel, Solver
from graft.solvers.fixed_point.base import FixedPointSolver, Solution


def second_slope(process: Process, level: float, next_level: float, share: float) -> tuple[float, State]:
    r"""Return the level at which a step takes its second slope, and the weight of that slope.

    At that level ``share`` of the step is done in the ODE's time variable. It is found numerically (Brent 1973), for
    any schedule. The mean slope of the step is :math:`(1 - w) k_1 + w k_2`.

    Args:
        process: Process of the sampler.
        level: Level at which the step begins.
        next_level: Level at which the step ends.
        share: Share of the step in the ODE's time variable, in (0, 1].

    Returns:
        The level, and w: a number for each field of the state, float64.

    Raises:
        GraftError: There is no ODE.
    """
    start, end = (float(process.ode_time(u)) for u in (level, next_level))
    between = next_level
    if share < 1 and start != end:
        target = start + share * (end - start)
        between = float(brentq(lambda u: float(process.ode_time(u)) - target, next_level, level, xtol=1e-15))
    if isinstance(process, MultiFieldProcess):  # each field has an ODE time of its own
        return between, {name: _weight(part, level, between, next_level) for name, part in process.fields.items()}
    return between, _weight(process, level, between, next_level)


def _weight(process: Process, level: float, between: float, next_level: float) -> Tensor:
    r"""Return the weight w of the slope at ``between`` in the mean slope of a step, float64.

    .. math:: w = 1 / (2a)

    with a the share of the step that the ODE's time variable has covered at ``between``: the order condition of
    two-stage Runge-Kutta methods (Hairer et al. 1993, section II.1).
    """
    start, middle, end = (process.ode_time(u) for u in (level, between, next_level))
    moved = middle - start
    return torch.where(moved == 0, 0.0, (end - start) / (2 * moved))  # a step of length 0 has no second slope


class RungeKutta2(Solver):
    """A second slope after the share ``alpha`` of the step.

    1 is Heun's method, 1/2 the midpoint rule, 2/3 Ralston's method.

    Args:
        alpha: Share of the step in the time variable of the process's ODE (`second_slope`), in (0, 1].
        evaluate_at_zero: Take the second slope at level 0, too. A network is trained near level 0 only, and predictions
            of x_0 have no slope there. With False the last step is Euler's where alpha = 1 (Karras et al. 2022,
            algorithm 1).

    Raises:
        GraftError: ``alpha`` is not in (0, 1].
    """

    def __init__(self, alpha: float, evaluate_at_zero: bool = True) -> None:
        limits.check("model.solver.alpha", alpha, 0, 1, above=True)
        self.alpha, self.evaluate_at_zero = alpha, evaluate_at_zero
        self._second: tuple[float, State] | None = None
        """(level, weight) of the second slope, in the copy that `invert_step` prepares."""

    @override
    def denoiser_calls(self, steps: int) -> int:
        return 2 * steps - (self.alpha == 1 and not self.evaluate_at_zero)

    @override
    def check(self, process: Process) -> None:
        """Raise GraftError if the sampler draws noise."""
        if process.stochastic:
            raise GraftError(
                f"`model.solver` is {type(self).__name__}; it must be Euler for a sampler that draws noise. Leave it "
                "out, or set eta=0 in every field of model.process"
            )

    @override
    def denoise_step(
        self, model: BoundModel, state: State, level: float, next_level: float, generator: "Generator | None"
    ) -> State:
        return model.process.ode_step(state, self._slope(model, state, level, next_level), level, next_level)

    @override
    def inverse_map(self, model: BoundModel, guess: State, state: State, level: float, next_level: float) -> State:
        """Return ``state`` moved back along the slope at ``guess``."""
        return model.process.ode_step(state, self._slope(model, guess, level, next_level), next_level, level)

    @override
    def invert_step(
        self,
        model: BoundModel,
        state: State,
        level: float,
        next_level: float,
        method: FixedPointSolver,
        start: "State | None" = None,
    ) -> Solution:
        """Return the inverse; the level of the second slope is found once for all evaluations."""
        prepared, process = copy.copy(self), model.process
        prepared._second = second_slope(process, next_level, level, self.alpha) if process.invertible else None
        return Solver.invert_step(prepared, model, state, level, next_level, method, start)

    def _slope(self, model: BoundModel, state: State, level: float, next_level: float) -> State:
        """Return the mean slope of a step down."""
        first = model.slope(state, level)
        between, weight = self._second or second_slope(model.process, level, next_level, self.alpha)
        if between == 0 and not self.evaluate_at_zero:
            return first
        second = model.slope(model.process.ode_step(state, first, level, between), between)
        return apply(lambda k1, k2, w: (1 - w) * k1 + w * k2, first, second, weight)


class Heun(RungeKutta2):
    """Heun's method: the mean of the slopes at both ends.

    Args:
        evaluate_at_zero: Take the second slope at level 0, too; with False the last step is Euler's.
    """

    def __init__(self, evaluate_at_zero: bool = True) -> None:
        super().__init__(1.0, evaluate_at_zero)


class Midpoint(RungeKutta2):
    """The midpoint rule: the slope half-way in the ODE's time variable, never at level 0."""

    def __init__(self) -> None:
        super().__init__(0.5)
