"""Brightness of a picture."""

from collections.abc import Sequence

from PIL import Image
from torch import Tensor
from typing_extensions import override

from domains.images.rewards.base import TensorReward


class Brightness(TensorReward):
    """Mean brightness, 0 (black) to 1 (white).

    Args:
        dark: Return 1 − brightness, for dark ink on bright paper.
    """

    def __init__(self, dark: bool = False) -> None:
        super().__init__()
        self.dark, self.name = dark, "darkness" if dark else "brightness"

    @override
    def values(self, pixels: Tensor, images: Sequence[Image.Image]) -> Tensor:
        bright = (pixels.flatten(1).mean(1) + 1) / 2
        return 1 - bright if self.dark else bright
