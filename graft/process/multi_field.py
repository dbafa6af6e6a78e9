"""A process for each field of a dict of tensors, on one clock and with one network."""

import math
from typing import Any

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core.state import Condition, State, as_dict
from graft.process.arguments import Level, NoisyExample
from graft.process.base import Process
from graft.process.ranges import require


class MultiFieldProcess(Process):
    """One process for each field; one call of the network returns an output for every field.

    The time, the log SNR and the network's time are those of the first field.

    Args:
        fields: Process of each field, by name.
        weights: Weight of each field's loss, by name; 1 for a field without one.

    Raises:
        GraftError: There is no field, or a weight is negative, not finite or of an unknown field.
    """

    def __init__(self, fields: dict[str, Process], weights: "dict[str, float] | None" = None) -> None:
        require(len(fields) > 0, "fields", fields, "have at least one process")
        for name, weight in (weights or {}).items():
            require(name in fields, "weights", f"of {name}", f"name fields only, {', '.join(fields)}")
            require(0 <= weight < math.inf, f"weights.{name}", weight, "be finite and at least 0")
        self.fields, self.weights = fields, weights or {}
        self.clock = next(iter(fields.values()))

    @property
    @override
    def stochastic(self) -> bool:
        return any(p.stochastic for p in self.fields.values())

    @property
    @override
    def invertible(self) -> bool:
        return all(p.invertible for p in self.fields.values())

    @property
    @override
    def why_not_invertible(self) -> str:
        found = [f"{name!r} {p.why_not_invertible}" for name, p in self.fields.items() if not p.invertible]
        return f"cannot be inverted: {'; '.join(found)}"

    @override
    def reverses_in_distribution(self, level: float) -> bool:
        return all(p.reverses_in_distribution(level) for p in self.fields.values())

    @property
    @override
    def has_log_prob(self) -> bool:
        return all(p.has_log_prob for p in self.fields.values())

    @override
    def time(self, level: Level) -> Tensor:
        return self.clock.time(level)

    @override
    def log_snr(self, level: Level) -> Tensor:
        return self.clock.log_snr(level)

    @override
    def timestep(self, level: Level) -> Tensor:
        return self.clock.timestep(level)

    @override
    def ode_time(self, level: Level) -> Tensor:
        return self.clock.ode_time(level)

    @override
    def prior(self, condition: Condition, generator: "Generator | None" = None) -> State:
        return self._each("prior", (), condition, generator)

    @override
    def noise(self, state: State, condition: "Condition | None", generator: "Generator | None") -> State:
        return self._each("noise", (state,), condition, generator)

    @override
    def corrupt_given_noise(self, state: State, noise: State, level: Level, from_level: Level) -> State:
        return self._each("corrupt_given_noise", (state, noise), level, from_level)

    @override
    def denoise_step(
        self,
        output: State,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        generator: "Generator | None",
    ) -> State:
        return self._each("denoise_step", (output, state), level, next_level, condition, generator)

    @override
    def invert_step(self, output: State, state: State, level: float, next_level: float, condition: Condition) -> State:
        return self._each("invert_step", (output, state), level, next_level, condition)

    @override
    def ode_velocity(self, output: State, state: State, level: Level, condition: Condition) -> State:
        return self._each("ode_velocity", (output, state), level, condition)

    @override
    def ode_step(self, state: State, slope: State, level: Level, next_level: Level) -> State:
        return self._each("ode_step", (state, slope), level, next_level)

    @override
    def log_prob(
        self, output: State, state: State, next_state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """Return the sum over the fields, which draw their noise independently."""
        return _sum(self._each("log_prob", (output, state, next_state), level, next_level, condition))

    @override
    def step_kl(
        self, output: State, other: State, state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        return _sum(self._each("step_kl", (output, other, state), level, next_level, condition))

    @override
    def predict_x0(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> State:
        return self._each("predict_x0", (output, state), level, condition)

    @override
    def loss_output(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> State:
        return self._each("loss_output", (output, state), level, condition)

    @override
    def loss_target(self, clean: State, noise: State, level: Level) -> State:
        return self._each("loss_target", (clean, noise), level)

    @override
    def x0_error(self, one: State, other: State, level: Tensor) -> Tensor:
        """Return the sum over the fields, weighted by `weights`."""
        return self._weighted(self._each("x0_error", (one, other), level))

    @override
    def output_loss(self, output: State, example: NoisyExample, condition: Condition) -> Tensor:
        """Return the sum over the fields, weighted by `weights`."""
        out = as_dict(output)
        return self._weighted(
            {name: p.output_loss(out[name], example.field(name), condition) for name, p in self.fields.items()}
        )

    @override
    def score_gap(self, estimate: State, state: State, level: float, condition: Condition) -> Tensor:
        return _sum(self._each("score_gap", (estimate, state), level, condition))

    def _each(self, method: str, states: tuple[State, ...], *shared: Any) -> dict[str, Tensor]:
        """Return the result of a method of every field's process, by field.

        Args:
            method: Name of the method of `Process`.
            states: First arguments, dicts by field, of which each process gets its own field.
            shared: Further arguments, the same for every process.
        """
        return {
            name: getattr(process, method)(*(as_dict(state)[name] for state in states), *shared)
            for name, process in self.fields.items()
        }

    def _weighted(self, terms: dict[str, Tensor]) -> Tensor:
        return _sum({name: self.weights.get(name, 1.0) * term for name, term in terms.items()})


def _sum(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum(0)
