"""How bright a picture is: for digits, white on black, how much ink there is."""

from collections.abc import Sequence

from PIL import Image
from torch import Tensor

from domains.images.rewards.base import TensorReward


class Brightness(TensorReward):
    """The mean brightness, 0 (black) to 1 (white).

    Args:
        dark: The ink is dark on bright paper: 1 − brightness.
    """

    def __init__(self, dark: bool = False) -> None:
        super().__init__()
        self.dark, self.name = dark, "darkness" if dark else "brightness"

    def values(self, pixels: Tensor, images: Sequence[Image.Image]) -> Tensor:
        """See `TensorReward.values`."""
        bright = (pixels.flatten(1).mean(1) + 1) / 2
        return 1 - bright if self.dark else bright
