"""Euler's method, DDIM and ancestral sampling: the process's own step, with one network call."""

from torch import Generator

from graft.process.base import Model, Process
from graft.solvers.base import Solver
from graft.state import Condition, State


class Euler(Solver):
    """The step of the process itself, of first order; the only one for stochastic samplers."""

    def denoiser_calls(self, steps: int) -> int:
        """See `Solver.denoiser_calls`."""
        return steps

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
        """See `Solver.denoise_step`."""
        output = process(model, state, level, condition)
        return process.denoise_step(output, state, level, next_level, condition, generator)

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
        """See `Solver.inverse_map`: `Process.invert_step`."""
        return process.invert_step(process(model, guess, level, condition), state, level, next_level, condition)
