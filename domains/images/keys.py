"""What makes pictures duplicates: the same pixels, or nearly the same small picture."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from graft.errors import GraftError
from graft.recorded_arguments import Described


class ImageKey(Described, ABC):
    """A canonical key of a picture: equal keys are duplicates."""

    @abstractmethod
    def __call__(self, image: Image.Image) -> str:
        """The key."""


class PixelHash(ImageKey):
    """The hash of size, mode and pixels: duplicates are equal in every bit."""

    def __call__(self, image: Image.Image) -> str:
        """128 bits in hexadecimal."""
        return blake2b(f"{image.mode} {image.size} ".encode() + image.tobytes(), digest_size=16).hexdigest()


class PerceptualHash(ImageKey):
    """The picture in grey, scaled down and coarsely quantised: duplicates look alike.

    A picture near the border of a cell has another key than one just across, however alike they are.

    Args:
        size: Pixels of a side that are left.
        grey_levels: Of each.
    """

    def __init__(self, size: int = 4, grey_levels: int = 4) -> None:
        if size < 1 or not 2 <= grey_levels <= 256:
            raise GraftError(f"a perceptual key of size {size} and {grey_levels} grey levels: give 1 and 2 at least")
        self.size, self.grey_levels = size, grey_levels

    def __call__(self, image: Image.Image) -> str:
        """A digit (two in hexadecimal) for each pixel that is left."""
        small = image.convert("L").resize((self.size, self.size), Image.Resampling.BOX)
        return (np.asarray(small).astype(int) * self.grey_levels // 256).astype(np.uint8).tobytes().hex()


def key_hash(key: str) -> int:
    """A key as a signed 64-bit number, the same in every process."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big", signed=True)


def key_hashes(keys: Iterable[str]) -> Tensor:
    """(K,) int64 hashes of keys."""
    return torch.tensor([key_hash(key) for key in keys], dtype=torch.long)
