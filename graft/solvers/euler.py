"""Euler's method, DDIM and ancestral sampling: the process's own step, with one call."""

from torch import Generator
from typing_extensions import override

from graft.core.state import Condition, State
from graft.process.base import Model, Process
from graft.solvers.base import Solver


class Euler(Solver):
    """The process's own step, of first order; the only solver for stochastic samplers."""

    @override
    def denoiser_calls(self, steps: int) -> int:
        return steps

    @override
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
        output = process(model, state, level, condition)
        return process.denoise_step(output, state, level, next_level, condition, generator)

    @override
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
        """Return `Process.invert_step` of the network's output for ``guess``."""
        return process.invert_step(process(model, guess, level, condition), state, level, next_level, condition)
