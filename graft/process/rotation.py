r"""Noise turned into data along a quarter of a circle.

.. math:: x_\varphi = \cos\varphi\, x_0 + \sin\varphi\, \epsilon, \qquad
    dx / d\varphi = E[\cos\varphi\, \epsilon - \sin\varphi\, x_0 \mid x_\varphi] = v(x, \varphi)

The network predicts v (Salimans & Ho 2022), which is 0 where the data are standard normal.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import override

from graft.core.state import Condition, State, as_tensor
from graft.process.arguments import Level
from graft.process.gaussian import Gaussian
from graft.process.projections import Projection
from graft.process.schedules import CosineSchedule


class TrigFlow(Gaussian):
    r"""Euler's method on dx/dφ = v, φ = π u / 2, for a flow between nearly Gaussian noises.

    A network with output 0 leaves the prior as it is, exactly and in any number of steps. DDIM's step on the same
    path would shrink it by cos Δφ, and a straight path would have the network undo the shrinking half-way.

    Args:
        shape: Shape of one sample, without the batch dimension.
        projection: Projection onto the subspace in which states live; ``null`` for the whole space.
    """

    def __init__(self, shape: Sequence[int], projection: "Projection | None" = None) -> None:
        super().__init__(CosineSchedule(), "v", shape, eta=0.0, projection=projection)

    @override
    def _coefficients(self, level: Level, next_level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """Return the coefficients of x − Δφ v, with v = (cos φ x − x_0) / sin φ."""
        alpha, sigma = self.alpha_sigma(level)
        turn = (self.time(level) - self.time(next_level)) * (torch.pi / 2)
        return 1 - turn * alpha / sigma, turn / sigma, torch.zeros_like(sigma)

    @override
    def ode_velocity(self, output: State, state: State, level: Level, condition: Condition) -> Tensor:
        """Return v itself."""
        return self._project(as_tensor(output), condition)

    @override
    def ode_time(self, level: Level) -> Tensor:
        """Return the angle φ as a share of the quarter of a circle."""
        return self.time(level)

    @override
    def ode_step(self, state: State, slope: State, level: Level, next_level: Level) -> Tensor:
        """Return x − Δφ v."""
        x, turn = as_tensor(state), float((self.time(level) - self.time(next_level)) * (torch.pi / 2))
        return (x - turn * as_tensor(slope)).to(x.dtype)
