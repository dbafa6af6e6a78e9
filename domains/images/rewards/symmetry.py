"""How alike a picture and its mirror image are."""

from collections.abc import Sequence
from typing import Literal

from PIL import Image
from torch import Tensor

from domains.images.rewards.base import TensorReward
from graft.errors import GraftError


class Symmetry(TensorReward):
    """The correlation of a picture's pixels with those of its mirror image, −1 to 1; 1 for a picture of one colour.

    A correlation and not a difference, so that faint pictures are not the best ones.

    Args:
        axis: ``vertical``: left and right are exchanged; ``horizontal``: top and bottom.
    """

    name = "symmetry"

    def __init__(self, axis: Literal["vertical", "horizontal"] = "vertical") -> None:
        super().__init__()
        if axis not in ("vertical", "horizontal"):
            raise GraftError(f"the axis of a symmetry is 'vertical' or 'horizontal', not {axis!r}")
        self.axis = axis

    def values(self, pixels: Tensor, images: Sequence[Image.Image]) -> Tensor:
        """See `TensorReward.values`."""
        x = pixels.double() - pixels.double().mean((1, 2, 3), keepdim=True)
        mirrored = x.flip(-1 if self.axis == "vertical" else -2)
        power = x.square().flatten(1).sum(1)
        found = (x * mirrored).flatten(1).sum(1) / power.clamp(min=1e-12)
        return found.where(power > 1e-12, 1.0)
