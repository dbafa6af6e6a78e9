"""Euler's method, DDIM and ancestral sampling: the process's own step, with one call."""

from torch import Generator
from typing_extensions import override

from graft.core.state import State
from graft.solvers.base import BoundModel, Solver


class Euler(Solver):
    """The process's own step, of first order; the only solver for stochastic samplers."""

    @override
    def denoiser_calls(self, steps: int) -> int:
        return steps

    @override
    def denoise_step(
        self, model: BoundModel, state: State, level: float, next_level: float, generator: "Generator | None"
    ) -> State:
        return model.process.denoise_step(model(state, level), state, level, next_level, model.condition, generator)

    @override
    def inverse_map(self, model: BoundModel, guess: State, state: State, level: float, next_level: float) -> State:
        """Return `Process.invert_step` of the network's output for ``guess``."""
        return model.process.invert_step(model(guess, level), state, level, next_level, model.condition)
