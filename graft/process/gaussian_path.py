r"""The forward process of `Gaussian`: its schedule, its kernels and its estimate of x_0.

.. math::
    x_t = \alpha_t x_0 + \sigma_t \epsilon, \qquad
    x_t \mid x_s \sim N\big((\alpha_t / \alpha_s) x_s,\ \sigma_{t|s}^2 I\big), \quad
    \sigma_{t|s}^2 = \sigma_t^2 - (\alpha_t / \alpha_s)^2 \sigma_s^2 \quad (s < t).
"""

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core import seeding
from graft.core.state import Condition, State, as_tensor, broadcast_to
from graft.process.arguments import Level
from graft.process.precision import to_single
from graft.process.predictions import Prediction, x0_from
from graft.process.schedules import Schedule
from graft.process.single_field import SingleFieldProcess


class GaussianPath(SingleFieldProcess):
    """The noising half of `Gaussian`, which sets the attributes.

    Attributes:
        schedule: alpha(t) and sigma(t).
        prediction_type: Parametrisation of the network.
        one_hot_scale: Size of a one-hot field's 1.
    """

    schedule: Schedule
    prediction_type: Prediction
    one_hot_scale: float

    def alpha_sigma(self, level: Level) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma) at ``level``, float64, of the level's shape."""
        return self.schedule.alpha_sigma(self.time(level))

    @override
    def log_snr(self, level: Level) -> Tensor:
        alpha, sigma = self.alpha_sigma(level)
        return 2 * (alpha.log() - sigma.log())

    @override
    def timestep(self, level: Level) -> Tensor:
        return self.schedule.network_time(self.time(level))

    def kernel(self, level: Level, from_level: Level) -> tuple[Tensor, Tensor]:
        """Return (alpha_t / alpha_s, sigma_{t|s}) of x_t | x_s for ``from_level`` <= ``level``, float64."""
        (alpha_t, sigma_t), (alpha_s, sigma_s) = self.alpha_sigma(level), self.alpha_sigma(from_level)
        # alpha may be 0 at both levels, from level 1 to itself
        ratio = torch.where(alpha_t == alpha_s, 1.0, alpha_t / alpha_s)
        return ratio, (sigma_t**2 - ratio**2 * sigma_s**2).clamp(min=0).sqrt()

    @override
    def prior(self, condition: Condition, generator: "Generator | None" = None) -> Tensor:
        """Sample from N(0, sigma_1² I) in the subspace."""
        return self.noise(self._empty(condition), condition, generator) * float(self.alpha_sigma(1.0)[1])

    @override
    def noise(self, state: State, condition: "Condition | None", generator: "Generator | None") -> Tensor:
        """Sample standard normal numbers in the subspace."""
        x = as_tensor(state)
        return self._project(seeding.normal(x.shape, x, generator), condition)

    @override
    def corrupt_given_noise(self, state: State, noise: State, level: Level, from_level: Level) -> Tensor:
        x = to_single(state)
        ratio, sigma = (broadcast_to(c, x) for c in self.kernel(level, from_level))
        return (ratio * x + sigma * as_tensor(noise)).to(as_tensor(state).dtype)

    def x0(self, output: Tensor, state: Tensor, level: Level, condition: "Condition | None" = None) -> Tensor:
        """Return the (B, ...) estimate of E[x_0 | x_u] from the network's output, not clipped."""
        output, state = to_single(output), to_single(state)
        alpha, sigma = (broadcast_to(c, state) for c in self.alpha_sigma(level))
        x0 = x0_from(self.prediction_type, output, state, alpha, sigma, self.one_hot_scale)
        return self._project(x0, condition)
