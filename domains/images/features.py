"""Features of pictures for distances, diversity and similarity."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor, nn
from torchmetrics import Metric
from typing_extensions import override

from domains.images.pixels import pil_to_tensor, to_float
from graft.core import limits
from graft.core.recorded_arguments import Described


class Features(Described, ABC):
    """(n, size) features of pictures.

    The features of the last set are kept, since every metric asks for the same set.
    """

    size: int
    network: bool = True
    """True for features of a network: their Fréchet distance is then called FID."""

    def __init__(self, batch_size: int = 256) -> None:
        self._batch_size = batch_size
        self._last: tuple[list[Image.Image], Tensor] | None = None
        self._real: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def of(self, pixels: Tensor) -> Tensor:
        """Return (n, size) features of (n, C, H, W) float32 pixels in [-1, 1]."""

    def metrics(self) -> Mapping[str, Metric]:
        """Return further metrics by name that the network of the features can compute."""
        return {}

    def __call__(self, images: Sequence[Image.Image]) -> Tensor:
        """Return (n, size) float32 features of the pictures."""
        if not images:
            return torch.zeros(0, self.size)
        last = self._last
        if last is not None and len(last[0]) == len(images) and all(map(lambda a, b: a is b, last[0], images)):
            return last[1]
        found = self.of_pixels(pil_to_tensor(images))
        self._last = list(images), found
        return found

    def of_real(self, pixels: Tensor) -> Tensor:
        """Return `of_pixels` of the real pictures, computed once."""
        if self._real is None or self._real[0] is not pixels:
            self._real = pixels, self.of_pixels(pixels)
        return self._real[1]

    @torch.no_grad()
    def of_pixels(self, pixels: Tensor) -> Tensor:
        """Return (n, size) float32 features of (n, C, H, W) uint8 pixels."""
        parts = [self.of(to_float(part)).float().cpu() for part in torch.split(pixels, self._batch_size)]
        return torch.cat(parts) if parts else torch.zeros(0, self.size)


class Pixels(Features):
    """The picture itself, in grey and scaled down; it shows brightness of areas but no shapes.

    Args:
        side: Side of the small picture in pixels.
    """

    network = False

    def __init__(self, side: int = 8) -> None:
        super().__init__()
        limits.check("model.features.side", side, 1)
        self.side, self.size = side, side * side

    @override
    def of(self, pixels: Tensor) -> Tensor:
        """Return (n, side²) grey values in [0, 1]."""
        grey = (pixels.mean(1, keepdim=True) + 1) / 2
        return nn.functional.adaptive_avg_pool2d(grey, self.side).flatten(1)
