"""A process of one tensor: its shape, its clock and the subspace in which it lives."""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core.state import Condition, State, as_tensor, size
from graft.process.arguments import Level
from graft.process.base import Process
from graft.process.projections import Projection
from graft.process.ranges import require


class SingleFieldProcess(Process):
    """A process of one tensor (B, *shape) on the clock t = u^warp.

    Args:
        shape: Shape of one sample, without the batch dimension.
        warp: Exponent of the clock.
        projection: Projection onto the subspace in which states live; ``null`` for the whole space.

    Raises:
        GraftError: ``warp`` is not positive and finite.
    """

    def __init__(self, shape: Sequence[int], warp: float, projection: "Projection | None") -> None:
        require(0 < warp < math.inf, "warp", warp, "be positive")
        self.shape, self.warp, self.projection = tuple(shape), warp, projection

    @override
    def time(self, level: Level) -> Tensor:
        return torch.as_tensor(level, dtype=torch.float64) ** self.warp

    @override
    def corrupt(
        self,
        state: State,
        level: Level,
        from_level: Level = 0.0,
        condition: "Condition | None" = None,
        generator: "Generator | None" = None,
    ) -> Tensor:
        return as_tensor(super().corrupt(state, level, from_level, condition, generator))

    def _empty(self, condition: Condition) -> Tensor:
        """Return an uninitialised state (B, *shape) on the device of ``condition``.

        The dtype is that of the first floating-point field of ``condition``, or torch's default.
        """
        like = next((field for field in condition.values() if field.is_floating_point()), None)
        device = next(iter(condition.values())).device
        dtype = like.dtype if like is not None else torch.get_default_dtype()
        return torch.empty(size(condition), *self.shape, dtype=dtype, device=device)

    def _project(self, x: Tensor, condition: "Condition | None") -> Tensor:
        return x if self.projection is None else self.projection(x, condition)
