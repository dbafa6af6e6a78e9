r"""Runge-Kutta methods of second order, with two network calls a step.

Every Gaussian process's deterministic sampler is the straight flow

.. math:: dy / d\tau = E[\epsilon - x_0 \mid x], \qquad
    y = x / (\alpha + \sigma), \quad \tau = \sigma / (\alpha + \sigma),

of which DDIM's step is Euler's (`Process.slope`, `Process.follow`). A second slope is taken after the share a of the
step, measured in :math:`\tau` and not on the clock u, so that the step does not depend on the schedule or the warp:

.. math:: y' = y + \Delta\tau \Big( \big(1 - \tfrac{1}{2a}\big) k_1 + \tfrac{1}{2a} k_2 \Big), \qquad
    k_1 = f(y, \tau), \quad k_2 = f(y + a \Delta\tau\, k_1, \tau + a \Delta\tau).

In a process of several fields each field has a :math:`\tau` of its own. The level of the second slope is the first
field's, and the weights of every field come from the share that its own :math:`\tau` has covered by then.
"""

import copy

from torch import Generator

from graft.errors import GraftError
from graft.inversion.base import Method, Solution
from graft.process.base import Model, Process
from graft.solvers.base import Solver
from graft.state import Condition, State, apply


class SecondOrder(Solver):
    """A second slope after the share ``a`` of the step: 1 is Heun's method, 1/2 the midpoint rule, 2/3 Ralston's.

    Args:
        a: In (0, 1], of the step in the time variable of the process's ODE (`Process.second_slope`).
        end: Take the second slope at level 0, too. A network is not trained there, only near it, and predictions of x_0
            have no slope there; with False the last step is Euler's where a = 1 (Karras et al. 2022, algorithm 1).
    """

    def __init__(self, a: float, end: bool = True) -> None:
        if not 0 < a <= 1:
            raise GraftError(f"the solver's second slope is after {a:g} of a step, but that is a share in (0, 1]")
        self.a, self.end = a, end
        self._second: tuple[float, State] | None = None  # (level, weight) of the second slope, within `up`

    def calls(self, steps: int) -> int:
        """See `Solver.calls`."""
        return 2 * steps - (self.a == 1 and not self.end)

    def check(self, process: Process) -> None:
        """See `Solver.check`: a sampler that draws noise."""
        if process.stochastic:
            raise GraftError(
                f"model.solver {type(self).__name__} is for samplers that draw no noise: set eta=0 in every field of "
                "model.process, or leave it out"
            )

    def down(
        self,
        process: Process,
        model: Model,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        generator: "Generator | None" = None,
    ) -> State:
        """See `Solver.down`."""
        slope = self._slope(process, model, state, level, next_level, condition)
        return process.follow(state, slope, level, next_level)

    def undo(
        self,
        process: Process,
        model: Model,
        guess: State,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
    ) -> State:
        """See `Solver.undo`: back along the slope that the guess has."""
        slope = self._slope(process, model, guess, level, next_level, condition)
        return process.follow(state, slope, next_level, level)

    def up(
        self,
        process: Process,
        model: Model,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        method: Method,
        start: "State | None" = None,
    ) -> Solution:
        """See `Solver.up`; where the second slope is taken is found once for all evaluations of the step."""
        prepared = copy.copy(self)
        prepared._second = process.second_slope(next_level, level, self.a) if process.reversible else None
        return Solver.up(prepared, process, model, state, level, next_level, condition, method, start)

    def _slope(
        self, process: Process, model: Model, state: State, level: float, next_level: float, condition: Condition
    ) -> State:
        """The mean slope of a step down."""
        first = process.slope(process(model, state, level, condition), state, level, condition)
        if self._second is None:
            between, weight = process.second_slope(level, next_level, self.a)
        else:
            between, weight = self._second
        if between == 0 and not self.end:
            return first
        there = process.follow(state, first, level, between)
        second = process.slope(process(model, there, between, condition), there, between, condition)
        return apply(lambda k1, k2, w: (1 - w) * k1 + w * k2, first, second, weight)


class Heun(SecondOrder):
    """Heun's method: the mean of the slopes at both ends; see `SecondOrder`.

    Args:
        end: As of `SecondOrder`.
    """

    def __init__(self, end: bool = True) -> None:
        super().__init__(1.0, end)


class Midpoint(SecondOrder):
    """The midpoint rule: the slope half-way in the ODE's time variable; it never asks the network at level 0."""

    def __init__(self) -> None:
        super().__init__(0.5)
