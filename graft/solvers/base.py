"""Solver: one step of a sampler, and the fixed-point map that undoes it."""

from abc import ABC, abstractmethod

from torch import Generator, Tensor

from graft.inversion.anderson import Anderson
from graft.inversion.base import FixedPointSolver, InversionError, Solution
from graft.process.base import Model, Process
from graft.recorded_arguments import Described
from graft.state import Condition, State, size, take


class Solver(Described, ABC):
    """How a process takes one step with a network; upwards it inverts the step down."""

    @abstractmethod
    def denoiser_calls(self, steps: int) -> int:
        """Network calls of so many steps from level 1 to 0."""

    def check(self, process: Process) -> None:
        """Refuse a process that it does not suit.

        Raises:
            GraftError: In one sentence.
        """

    @abstractmethod
    def denoise_step(
        self,
        process: Process,
        model: Model,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        generator: "Generator | None" = None,
    ) -> State:
        """The state at ``next_level <= level``."""

    @abstractmethod
    def inverse_map(
        self,
        process: Process,
        model: Model,
        guess: State,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
    ) -> State:
        """One evaluation of the map whose fixed point is the state at ``level`` of which `down` makes ``state``.

        Args:
            process: Of the step.
            model: The network.
            guess: (B, ...) of the state at ``level``.
            state: (B, ...) at ``next_level < level``.
            level: Where the step down began.
            next_level: Where it ended.
            condition: What is given.
        """

    def step(
        self,
        process: Process,
        model: Model,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        generator: "Generator | None" = None,
    ) -> State:
        """One step from ``level`` to ``next_level``; upwards (``next_level > level``) it inverts the step down.

        Raises:
            InversionError: The step is stochastic, or its inverse was not found for some sample.
        """
        if next_level <= level:
            return self.denoise_step(process, model, state, level, next_level, condition, generator)
        solution = self.invert_step(process, model, state, level, next_level, condition, Anderson())
        missed = int((~solution.solved).sum())
        if missed:
            raise InversionError(
                f"the step from level {next_level:.4g} to {level:.4g} could not be inverted for {missed} of "
                f"{size(state)} samples (worst residual {float(solution.residual.max()):.1e} after "
                f"{int(solution.calls.max())} iterations): take more steps, so that each is smaller"
            )
        return solution.state

    def invert_step(
        self,
        process: Process,
        model: Model,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        method: FixedPointSolver,
        start: "State | None" = None,
    ) -> Solution:
        """The states at ``next_level > level`` of which `down` makes ``state``, as far as ``method`` finds them.

        Raises:
            InversionError: The step is stochastic.
        """
        if not process.invertible:
            raise InversionError(f"{type(process).__name__} {process.why_not_invertible}")

        def function(guess: State, rows: Tensor) -> State:
            given = take(condition, rows)
            assert isinstance(given, dict)
            return self.inverse_map(process, model, guess, take(state, rows), next_level, level, given)

        return method(function, state if start is None else start)
