"""The arguments of a process: levels, networks and noisy examples."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from graft.core.state import Condition, State, as_dict

Level: TypeAlias = "float | Tensor"
"""u in [0, 1]: one number for the batch, or (B,), one for each sample."""

Model: TypeAlias = Callable[[State, Tensor, Condition], State]
"""(state, network time (B,), condition) -> output of the state's shape."""


@dataclass(frozen=True)
class NoisyExample:
    """Training states with the noise that was added to them.

    Attributes:
        noisy: (B, ...) states at ``level``, corrupt_given_noise(state, noise, level, from_level).
        state: (B, ...) training states, at level ``from_level``.
        noise: (B, ...) result of `Process.noise`.
        level: (B,) level of ``noisy``.
        from_level: (B,) level of ``state``.
        target: (B, ...) x_0 of the trajectories for target (b) of `Process.loss`; None for target (a).
    """

    noisy: State
    state: State
    noise: State
    level: Tensor
    from_level: Tensor
    target: "State | None" = None

    def field(self, name: str) -> "NoisyExample":
        """Return the example with the field ``name`` of each state."""
        target = None if self.target is None else as_dict(self.target)[name]
        noisy, state, noise = (as_dict(each)[name] for each in (self.noisy, self.state, self.noise))
        return NoisyExample(noisy, state, noise, self.level, self.from_level, target)
