"""Size of a picture as a JPEG file (Black et al. 2024, DDPO): rewards that need no network."""

import io
from typing import Literal

from PIL import Image
from typing_extensions import override

from domains.images.rewards.base import PictureReward
from graft.core import limits

Subsampling = Literal["4:4:4", "4:2:2", "4:2:0"]


class _Jpeg(PictureReward):
    unit = "kB"

    def __init__(self, quality: int = 95, subsampling: Subsampling = "4:2:0", scale: int = 1) -> None:
        limits.check("data.reward.quality", quality, 1, 100)
        limits.check("data.reward.scale", scale, 1)
        self.quality, self.subsampling, self.scale = quality, subsampling, scale

    @override
    def value(self, image: Image.Image) -> float:
        """Return the size of the file in kB, 1,000 bytes."""
        if self.scale > 1:
            size = (image.width * self.scale, image.height * self.scale)
            image = image.resize(size, Image.Resampling.NEAREST)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=self.quality, subsampling=self.subsampling)
        return len(out.getbuffer()) / 1000


class Incompressibility(_Jpeg):
    """Size of the picture as a JPEG file, in kB; larger is better.

    Args:
        quality: JPEG quality, 1 to 100.
        subsampling: Subsampling of the colours.
        scale: Factor by which a small picture is enlarged first, pixel by pixel; else it is only a few blocks of JPEG.
    """

    name = "JPEG size"


class Compressibility(_Jpeg):
    """Size of the picture as a JPEG file, in kB; smaller is better.

    Args:
        quality: JPEG quality, 1 to 100.
        subsampling: Subsampling of the colours.
        scale: Factor by which a small picture is enlarged first, pixel by pixel; else it is only a few blocks of JPEG.
    """

    name = "JPEG size"
    higher_is_better = False
