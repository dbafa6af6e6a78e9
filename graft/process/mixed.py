"""A process for each field of a state that is a dict of tensors, on one clock and with one network."""

import math

import torch
from torch import Generator, Tensor

from graft.process.base import Level, Process
from graft.process.ranges import require
from graft.state import Condition, State


class MultiFieldProcess(Process):
    """One process for each field; the network is called once a step and its output has the same fields.

    Args:
        fields: The process of each field. The first one's time is what the network is told.
        weights: Of each field's loss; 1 where not given.
    """

    def __init__(self, fields: dict[str, Process], weights: "dict[str, float] | None" = None) -> None:
        require(len(fields) > 0, "fields", fields, "have at least one process")
        for name, weight in (weights or {}).items():
            require(name in fields, "weights", f"of {name}", f"name fields only, {', '.join(fields)}")
            require(0 <= weight < math.inf, f"weights.{name}", weight, "be finite and at least 0")
        self.fields, self.weights = fields, weights or {}
        self.clock = next(iter(fields.values()))

    @property
    def stochastic(self) -> bool:
        """See `Process.stochastic`."""
        return any(p.stochastic for p in self.fields.values())

    @property
    def invertible(self) -> bool:
        """See `Process.invertible`."""
        return all(p.invertible for p in self.fields.values())

    @property
    def why_not_invertible(self) -> str:
        """See `Process.why_not_invertible`: that of each field which has one."""
        found = [f"{name!r} {p.why_not_invertible}" for name, p in self.fields.items() if not p.invertible]
        return f"cannot be inverted: {'; '.join(found)}"

    @property
    def reverses_in_law(self) -> bool:
        """See `Process.reverses_in_law`."""
        return all(p.reverses_in_law for p in self.fields.values())

    @property
    def has_log_prob(self) -> bool:
        """See `Process.has_log_prob`."""
        return all(p.has_log_prob for p in self.fields.values())

    def time(self, level: Level) -> Tensor:
        """See `Process.time`: the first field's."""
        return self.clock.time(level)

    def log_snr(self, level: Level) -> Tensor:
        """See `Process.log_snr`: the first field's."""
        return self.clock.log_snr(level)

    def timestep(self, level: Level) -> Tensor:
        """See `Process.timestep`."""
        return self.clock.timestep(level)

    def prior(self, condition: Condition, generator: "Generator | None" = None) -> State:
        """See `Process.prior`."""
        return {name: _tensor(p.prior(condition, generator)) for name, p in self.fields.items()}

    def noise(self, state: State, condition: "Condition | None", generator: "Generator | None") -> State:
        """See `Process.noise`."""
        x = _dict(state)
        return {name: _tensor(p.noise(x[name], condition, generator)) for name, p in self.fields.items()}

    def corrupt(
        self,
        state: State,
        level: Level,
        from_level: Level = 0.0,
        condition: "Condition | None" = None,
        generator: "Generator | None" = None,
    ) -> State:
        """See `Process.corrupt`."""
        return self.corrupt_given_noise(state, self.noise(state, condition, generator), level, from_level)

    def corrupt_given_noise(self, state: State, noise: State, level: Level, since: Level) -> State:
        """See `Process.corrupt_given_noise`."""
        x, z = _dict(state), _dict(noise)
        return {name: _tensor(p.corrupt_given_noise(x[name], z[name], level, since)) for name, p in self.fields.items()}

    def denoise_step(
        self,
        output: State,
        state: State,
        level: float,
        next_level: float,
        condition: Condition,
        generator: "Generator | None",
    ) -> State:
        """See `Process.denoise_step`."""
        out, x = _dict(output), _dict(state)
        return {
            name: _tensor(p.denoise_step(out[name], x[name], level, next_level, condition, generator))
            for name, p in self.fields.items()
        }

    def invert_step(self, output: State, state: State, level: float, next_level: float, condition: Condition) -> State:
        """See `Process.invert_step`."""
        out, x = _dict(output), _dict(state)
        return {
            name: _tensor(p.invert_step(out[name], x[name], level, next_level, condition))
            for name, p in self.fields.items()
        }

    def ode_velocity(self, output: State, state: State, level: Level, condition: Condition) -> State:
        """See `Process.ode_velocity`."""
        out, x = _dict(output), _dict(state)
        return {name: _tensor(p.ode_velocity(out[name], x[name], level, condition)) for name, p in self.fields.items()}

    def ode_step(self, state: State, slope: State, level: Level, next_level: Level) -> State:
        """See `Process.ode_step`."""
        x, k = _dict(state), _dict(slope)
        return {name: _tensor(p.ode_step(x[name], k[name], level, next_level)) for name, p in self.fields.items()}

    def ode_time(self, level: Level) -> Tensor:
        """See `Process.ode_time`: the first field's."""
        return self.clock.ode_time(level)

    def second_weight(self, level: float, between: float, next_level: float) -> State:
        """See `Process.second_weight`: each field has a time variable of its own."""
        return {name: _tensor(p.second_weight(level, between, next_level)) for name, p in self.fields.items()}

    def log_prob(
        self, output: State, state: State, next_state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """See `Process.log_prob`: the sum over the fields, which draw their noise independently."""
        out, x, following = _dict(output), _dict(state), _dict(next_state)
        terms = [
            p.log_prob(out[name], x[name], following[name], level, next_level, condition)
            for name, p in self.fields.items()
        ]
        return torch.stack(terms).sum(0)

    def step_kl(
        self, output: State, other: State, state: State, level: Level, next_level: Level, condition: Condition
    ) -> Tensor:
        """See `Process.step_kl`: the sum over the fields."""
        out, theirs, x = _dict(output), _dict(other), _dict(state)
        terms = [
            p.step_kl(out[name], theirs[name], x[name], level, next_level, condition) for name, p in self.fields.items()
        ]
        return torch.stack(terms).sum(0)

    def predict_x0(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> State:
        """See `Process.predict_x0`."""
        out, x = _dict(output), _dict(state)
        return {name: _tensor(p.predict_x0(out[name], x[name], level, condition)) for name, p in self.fields.items()}

    def loss_output(self, output: State, state: State, level: Level, condition: "Condition | None" = None) -> State:
        """See `Process.loss_output`."""
        out, x = _dict(output), _dict(state)
        return {name: _tensor(p.loss_output(out[name], x[name], level, condition)) for name, p in self.fields.items()}

    def loss_target(self, clean: State, noise: State, level: Level) -> State:
        """See `Process.loss_target`."""
        x, z = _dict(clean), _dict(noise)
        return {name: _tensor(p.loss_target(x[name], z[name], level)) for name, p in self.fields.items()}

    def x0_error(self, one: State, other: State, level: Tensor) -> Tensor:
        """See `Process.x0_error`: the weighted sum over the fields."""
        a, b = _dict(one), _dict(other)
        terms = [self.weights.get(n, 1.0) * p.x0_error(a[n], b[n], level) for n, p in self.fields.items()]
        return torch.stack(terms).sum(0)

    def output_loss(
        self,
        output: State,
        noisy: State,
        state: State,
        noise: State,
        level: Tensor,
        since: Tensor,
        target: "State | None",
        condition: Condition,
    ) -> Tensor:
        """See `Process.output_loss`: the weighted sum over the fields."""
        out, noisy, x, z = _dict(output), _dict(noisy), _dict(state), _dict(noise)
        goal = _dict(target) if target is not None else None
        terms = [
            self.weights.get(name, 1.0)
            * p.output_loss(
                out[name], noisy[name], x[name], z[name], level, since, None if goal is None else goal[name], condition
            )
            for name, p in self.fields.items()
        ]
        return torch.stack(terms).sum(0)

    def score_gap(self, estimate: State, state: State, level: float, condition: Condition) -> Tensor:
        """See `Process.score_gap`: the sum over the fields."""
        x0, x = _dict(estimate), _dict(state)
        gaps = [p.score_gap(x0[name], x[name], level, condition) for name, p in self.fields.items()]
        return torch.stack(gaps).sum(0)


def _dict(state: State) -> dict[str, Tensor]:
    assert isinstance(state, dict), "a mixed process acts on a dict of tensors"
    return state


def _tensor(state: State) -> Tensor:
    assert isinstance(state, Tensor)
    return state
