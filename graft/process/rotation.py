r"""Noise turned into data along a quarter of a circle.

.. math:: x_\varphi = \cos\varphi\, x_0 + \sin\varphi\, \epsilon, \qquad
    dx / d\varphi = E[\cos\varphi\, \epsilon - \sin\varphi\, x_0 \mid x_\varphi] = v(x, \varphi)

The network gives v (Salimans & Ho 2022), which is 0 where the data are standard normal themselves.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from graft.process.base import Level
from graft.process.gaussian import Gaussian
from graft.process.projections import Projection
from graft.process.schedules import CosineSchedule
from graft.state import Condition, State


class TrigFlow(Gaussian):
    r"""Euler's method on dx/dφ = v, φ = π u / 2: what a flow from nearly Gaussian noise to nearly Gaussian noise wants.

    A network that says 0 leaves the prior as it is, exactly and in any number of steps; DDIM's step on the same path
    would shrink it by cos Δφ, and a straight path would have the network undo the shrinking half-way.

    Args:
        shape: Of one sample, without the batch dimension.
        projection: As of `Gaussian`.
    """

    def __init__(self, shape: Sequence[int], projection: "Projection | None" = None) -> None:
        super().__init__(CosineSchedule(), "v", shape, eta=0.0, projection=projection)

    def _coefficients(self, level: Level, next_level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """See `Gaussian`: x − Δφ v with v = (cos φ x − x_0) / sin φ."""
        alpha, sigma = self.alpha_sigma(level)
        turn = (self.time(level) - self.time(next_level)) * (torch.pi / 2)
        return 1 - turn * alpha / sigma, turn / sigma, torch.zeros_like(sigma)

    def ode_velocity(self, output: State, state: State, level: Level, condition: Condition) -> Tensor:
        """See `Process.ode_velocity`: v itself."""
        assert isinstance(output, Tensor)
        return self._project(output, condition)

    def ode_time(self, level: Level) -> Tensor:
        """See `Process.ode_time`: the angle, as a share of the quarter of a circle."""
        return self.time(level)

    def ode_step(self, state: State, slope: State, level: Level, next_level: Level) -> Tensor:
        """See `Process.ode_step`: x − Δφ v."""
        assert isinstance(state, Tensor) and isinstance(slope, Tensor)
        return (state - float((self.time(level) - self.time(next_level)) * (torch.pi / 2)) * slope).to(state.dtype)
