"""Euler's method, DDIM and ancestral sampling: the process's own step, with one network call."""

from torch import Generator

from graft.process.base import Model, Process
from graft.solvers.base import Solver
from graft.state import Condition, State


class Euler(Solver):
    """The step of the process itself, of first order; the only one for stochastic samplers."""

    def calls(self, steps: int) -> int:
        """See `Solver.calls`."""
        return steps

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
        output = process(model, state, level, condition)
        return process.advance(output, state, level, next_level, condition, generator)

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
        """See `Solver.undo`: `Process.retreat`."""
        return process.retreat(process(model, guess, level, condition), state, level, next_level, condition)
