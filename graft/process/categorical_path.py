"""The forward process of `Categorical`: the clock on which positions lose their class."""

from abc import abstractmethod

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core import seeding
from graft.core.state import Condition, State, as_tensor, broadcast_to
from graft.process.arguments import Level
from graft.process.precision import double, to_double
from graft.process.single_field import SingleFieldProcess


class CategoricalPath(SingleFieldProcess):
    """The noising half of `Categorical`."""

    @abstractmethod
    def replace_lost(self, state: Tensor, lost: Tensor, kind: Tensor) -> Tensor:
        """Return ``state`` with new rows where ``lost``.

        ``lost`` and ``kind`` are (B, ..., 1); ``kind`` is uniform in [0, 1) and selects the new class.
        """

    # The clock

    def elapsed(self, level: Level, from_level: Level = 0.0) -> Tensor:
        """Return t(level) − t(from_level), float64, to full precision where they are nearly equal, too."""
        u, s = torch.as_tensor(level, dtype=torch.float64), torch.as_tensor(from_level, dtype=torch.float64)
        if self.warp == 1:
            return u - s  # exact where u <= 2 s
        near = (s > 0) & (u < 2 * s)
        below = torch.where(near, s, 1.0)
        step = torch.where(near, (u - s) / below, 0.0)
        return torch.where(
            near, below**self.warp * torch.expm1(self.warp * torch.log1p(step)), u**self.warp - s**self.warp
        )

    def left(self, level: Level) -> Tensor:
        """Return 1 − t(level), float64, to full precision near level 1."""
        u = torch.as_tensor(level, dtype=torch.float64)
        return 1 - u if self.warp == 1 else -torch.expm1(self.warp * u.log())

    def keep_probability(self, level: Level, from_level: Level = 0.0) -> Tensor:
        """Return r, the probability of keeping a class from ``from_level`` to ``level``, float64."""
        now, before = self.left(level), self.left(from_level)
        return torch.where(now == before, 1.0, now / before)  # from level 1 to itself both are 0

    def lost(self, level: Level, from_level: Level = 0.0) -> Tensor:
        """Return 1 − r, the probability of losing a class, float64, to full precision near 0."""
        before = self.left(from_level)
        return torch.where(before > 0, self.elapsed(level, from_level) / before, 0.0).clamp(0, 1)

    def dt_du(self, level: Tensor) -> Tensor:
        """Return dt / du, float64."""
        return self.warp * torch.as_tensor(level, dtype=torch.float64) ** (self.warp - 1)

    @override
    def log_snr(self, level: Level) -> Tensor:
        """Return the log-odds of having kept the class."""
        t = self.time(level)
        return torch.log1p(-t) - t.log()

    @override
    def timestep(self, level: Level) -> Tensor:
        return self.time(level)

    # Noising

    @override
    def noise(self, state: State, condition: "Condition | None", generator: "Generator | None") -> Tensor:
        """Sample a uniform number for each position, (B, ..., 1)."""
        x = as_tensor(state)
        return seeding.uniform((*x.shape[:-1], 1), generator).to(x.device, double(x))

    @override
    def corrupt_given_noise(self, state: State, noise: State, level: Level, from_level: Level) -> Tensor:
        """Return the state; one number decides whether a class is lost, and which class follows."""
        x = as_tensor(state)
        rest = 1 - to_double(noise)  # exact in (0, 1], since 1 − r may be too small to change 1
        lost = broadcast_to(self.lost(level, from_level), rest)
        return self.replace_lost(x, rest <= lost, (1 - rest / lost.clamp(min=torch.finfo(rest.dtype).tiny)).clamp(0, 1))

    @override
    def prior(self, condition: Condition, generator: "Generator | None" = None) -> Tensor:
        """Sample states in which every position has lost its class."""
        x = self._empty(condition)
        z = self.noise(x, condition, generator)
        return self._project(self.replace_lost(torch.ones_like(x), torch.ones_like(z, dtype=torch.bool), z), condition)
