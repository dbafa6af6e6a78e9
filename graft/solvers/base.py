"""The interface of a solver: one step of a sampler, and the fixed-point map that inverts it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

from torch import Generator, Tensor

from graft.core.recorded_arguments import Described
from graft.core.state import Condition, State, size, take
from graft.errors import InversionError
from graft.process.arguments import Level, Model
from graft.process.base import Process
from graft.solvers.fixed_point.anderson import Anderson
from graft.solvers.fixed_point.base import FixedPointSolver, Solution


@dataclass(frozen=True)
class BoundModel:
    """A network with its process and the condition of the samples.

    Attributes:
        process: Process of the network.
        network: Network.
        condition: Condition of each sample.
    """

    process: Process
    network: Model
    condition: Condition

    def __call__(self, state: State, level: Level) -> State:
        """Return the network's output (B, ...) for ``state`` at ``level``."""
        return self.process(self.network, state, level, self.condition)

    def slope(self, state: State, level: float) -> State:
        """Return the slope (B, ...) of the process's ODE at ``state``.

        Raises:
            GraftError: There is no ODE, or its slope is not known at that level.
        """
        return self.process.ode_velocity(self(state, level), state, level, self.condition)


class Solver(Described, ABC):
    """One step of a process with a network; a step up inverts the step down."""

    @abstractmethod
    def denoiser_calls(self, steps: int) -> int:
        """Return the number of network calls of ``steps`` steps from level 1 to 0."""

    def check(self, process: Process) -> None:
        """Raise GraftError if the solver cannot take steps of ``process``."""

    @abstractmethod
    def denoise_step(
        self, model: BoundModel, state: State, level: float, next_level: float, generator: "Generator | None"
    ) -> State:
        """Return the state at ``next_level <= level``."""

    @abstractmethod
    def inverse_map(self, model: BoundModel, guess: State, state: State, level: float, next_level: float) -> State:
        """Return one evaluation of the map with the inverse of `denoise_step` as fixed point.

        The fixed point is the state at ``level`` that `denoise_step` turns into ``state``.

        Args:
            model: Network with its process and the condition.
            guess: Guess of the state at ``level``, (B, ...).
            state: State at ``next_level < level``, (B, ...).
            level: Level at which the step down begins.
            next_level: Level at which the step down ends.
        """

    def step(
        self, model: BoundModel, state: State, level: float, next_level: float, generator: "Generator | None"
    ) -> State:
        """Return the state at ``next_level``; a step up, ``next_level > level``, inverts the step down.

        Raises:
            InversionError: The step is stochastic, or its inverse was not found for some sample.
        """
        if next_level <= level:
            return self.denoise_step(model, state, level, next_level, generator)
        solution = self.invert_step(model, state, level, next_level, Anderson())
        unsolved = int((~solution.solved).sum())
        if unsolved:
            raise InversionError(
                f"the step from level {next_level:.4g} to {level:.4g} could not be inverted for {unsolved} of "
                f"{size(state)} samples (worst residual {float(solution.residual.max()):.1e} after "
                f"{int(solution.calls.max())} iterations): take more steps, so that each is smaller"
            )
        return solution.state

    def invert_step(
        self,
        model: BoundModel,
        state: State,
        level: float,
        next_level: float,
        method: FixedPointSolver,
        start: "State | None" = None,
    ) -> Solution:
        """Return the states at ``next_level > level`` that `denoise_step` turns into ``state``.

        Args:
            model: Network with its process and the condition.
            state: State at ``level``, (B, ...).
            level: Level of ``state``.
            next_level: Level of the result, above ``level``.
            method: Solver of the fixed-point equation; it may leave samples unsolved.
            start: First guess of the result; ``state`` if None.

        Raises:
            InversionError: The step is stochastic.
        """
        process = model.process
        if not process.invertible:
            raise InversionError(f"{type(process).__name__} {process.why_not_invertible}")

        def function(guess: State, rows: Tensor) -> State:
            own = replace(model, condition=take(model.condition, rows))
            return self.inverse_map(own, guess, take(state, rows), next_level, level)

        return method(function, state if start is None else start)
