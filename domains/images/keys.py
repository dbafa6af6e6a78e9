"""Keys of pictures: equal pixels, or nearly equal small pictures."""

from abc import ABC, abstractmethod
from hashlib import blake2b

import numpy as np
from PIL import Image
from typing_extensions import override

from graft.core import limits
from graft.core.recorded_arguments import Described


class ImageKey(Described, ABC):
    """A canonical key of a picture; equal keys are duplicates."""

    @abstractmethod
    def __call__(self, image: Image.Image) -> str:
        """Return the key."""


class PixelHash(ImageKey):
    """Hash of size, mode and pixels: duplicates are equal in every bit."""

    @override
    def __call__(self, image: Image.Image) -> str:
        """Return 128 bits in hexadecimal."""
        return blake2b(f"{image.mode} {image.size} ".encode() + image.tobytes(), digest_size=16).hexdigest()


class PerceptualHash(ImageKey):
    """The picture in grey, scaled down and coarsely quantised: duplicates look alike.

    Two pictures on both sides of the border of a quantisation step have different keys, however similar they are.

    Args:
        size: Side of the small picture in pixels.
        grey_levels: Number of grey levels.
    """

    def __init__(self, size: int = 4, grey_levels: int = 4) -> None:
        limits.check("model.keys.size", size, 1)
        limits.check("model.keys.grey_levels", grey_levels, 2, 256)
        self.size, self.grey_levels = size, grey_levels

    @override
    def __call__(self, image: Image.Image) -> str:
        """Return one byte in hexadecimal for each pixel of the small picture."""
        small = image.convert("L").resize((self.size, self.size), Image.Resampling.BOX)
        return (np.asarray(small).astype(int) * self.grey_levels // 256).astype(np.uint8).tobytes().hex()
