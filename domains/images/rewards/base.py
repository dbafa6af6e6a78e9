"""Bases of rewards of pictures: a number of one `PIL.Image.Image`, or of many as one tensor."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from typing_extensions import override

from domains.images.pixels import pil_to_tensor, to_float
from graft.core.copies import copies
from graft.reward import Reward, Scores, score_batches, to_finite_float


class PictureReward(Reward):
    """A number of one picture; a picture with pixels that are not finite fails."""

    @abstractmethod
    def value(self, image: Image.Image) -> float:
        """Return the number."""

    @override
    def score(self, item: Any) -> float:
        require_finite_pixels(item)
        return self.value(item)


class TensorReward(Reward):
    """A number of each picture of a tensor; pictures of one size and mode form a batch.

    Args:
        batch_size: Pictures at a time.
    """

    def __init__(self, batch_size: int = 256) -> None:
        self.batch_size = batch_size

    @abstractmethod
    def values(self, pixels: Tensor, images: Sequence[Image.Image]) -> Tensor:
        """Return (n,) numbers of (n, C, H, W) float32 pixels in [-1, 1] of n pictures."""

    @override
    def score(self, item: Any) -> float:
        require_finite_pixels(item)
        return to_finite_float(self.values(to_float(pil_to_tensor([item])), [item])[0])

    @torch.no_grad()
    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        return score_batches(self, items, self._batches(items), self._values)

    def _values(self, images: list[Any]) -> list[float]:
        for image in images:
            require_finite_pixels(image)
        images = copies(images)  # a batch that raises is scored again, from pictures that no reward has changed
        found: list[float] = self.values(to_float(pil_to_tensor(images)), images).tolist()
        return found

    def _batches(self, items: Sequence[Any]) -> list[list[int]]:
        out: list[list[int]] = []
        for _, run in groupby(range(len(items)), key=lambda i: (items[i].mode, items[i].size)):
            rows = list(run)
            out += [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        return out


def require_finite_pixels(image: Image.Image) -> None:
    """Raise ValueError if pixels of the picture are not finite."""
    if "failed" in image.info:
        raise ValueError(image.info["failed"])
