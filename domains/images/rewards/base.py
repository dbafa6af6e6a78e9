"""What a reward of a picture is: a number of a `PIL.Image.Image`, or of many as one tensor."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from domains.images.pixels import pil_to_tensor, to_float
from graft.copies import copies
from graft.reward import Reward, Scores, to_finite_float


class PictureReward(Reward):
    """A number of one picture. A picture whose pixels were not finite fails and is never scored."""

    @abstractmethod
    def value(self, image: Image.Image) -> float:
        """The number."""

    def score(self, item: Any) -> float:
        """See `graft.reward.Reward.score`."""
        check(item)
        return self.value(item)


class TensorReward(Reward):
    """A number of each picture of a tensor; those of one size and mode go together.

    Args:
        batch_size: Pictures at a time.
    """

    def __init__(self, batch_size: int = 256) -> None:
        self.batch_size = batch_size

    @abstractmethod
    def values(self, pixels: Tensor, images: Sequence[Image.Image]) -> Tensor:
        """(n,) of (n, C, H, W) float32 pixels in [-1, 1], which are those of ``images``."""

    def score(self, item: Any) -> float:
        """See `graft.reward.Reward.score`."""
        check(item)
        return to_finite_float(self.values(to_float(pil_to_tensor([item])), [item])[0])

    @torch.no_grad()
    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every picture; where a batch raises, one by one, so that a failure costs only what it is due to."""
        scores = Scores([float("nan")] * len(items))
        for part in self._parts(items):
            images = [items[i] for i in part]
            try:
                for image in images:
                    check(image)
                given = copies(images)  # they are scored again, as they were, where this raises
                found = [
                    to_finite_float(value) for value in self.values(to_float(pil_to_tensor(given)), given).tolist()
                ]
            except Exception:
                alone = super().__call__(images)
                found = alone.values
                scores.failures |= {part[j]: why for j, why in alone.failures.items()}
            for i, value in zip(part, found, strict=True):
                scores.values[i] = value
        return scores

    def _parts(self, items: Sequence[Any]) -> list[list[int]]:
        out: list[list[int]] = []
        for _, run in groupby(range(len(items)), key=lambda i: (items[i].mode, items[i].size)):
            rows = list(run)
            out += [rows[i : i + self.batch_size] for i in range(0, len(rows), self.batch_size)]
        return out


def check(image: Image.Image) -> None:
    """Refuse what is no picture.

    Raises:
        ValueError: Its pixels were not finite.
    """
    if "failed" in image.info:
        raise ValueError(image.info["failed"])
