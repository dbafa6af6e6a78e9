"""Symmetry of a picture."""

from collections.abc import Sequence
from typing import Literal

from PIL import Image
from torch import Tensor
from typing_extensions import override

from domains.images.rewards.base import TensorReward
from graft.errors import GraftError


class Symmetry(TensorReward):
    """Correlation of a picture's pixels with those of its mirror image, −1 to 1.

    It is 1 for a picture of one colour. It is a correlation instead of a difference, so that faint pictures have no
    advantage.

    Args:
        axis: ``vertical``: left and right are exchanged; ``horizontal``: top and bottom.
    """

    name = "symmetry"

    def __init__(self, axis: Literal["vertical", "horizontal"] = "vertical") -> None:
        super().__init__()
        if axis not in ("vertical", "horizontal"):
            raise GraftError(f"the axis of a symmetry is 'vertical' or 'horizontal', not {axis!r}")
        self.axis = axis

    @override
    def values(self, pixels: Tensor, images: Sequence[Image.Image]) -> Tensor:
        x = pixels.double() - pixels.double().mean((1, 2, 3), keepdim=True)
        mirrored = x.flip(-1 if self.axis == "vertical" else -2)
        power = x.square().flatten(1).sum(1)
        found = (x * mirrored).flatten(1).sum(1) / power.clamp(min=1e-12)
        return found.where(power > 1e-12, 1.0)
