"""A Python callable of a tensor as a reward.

`graft.reward.FunctionReward` takes a callable of PIL images.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor
from typing_extensions import override

from domains.images.rewards.base import TensorReward
from graft.io import fingerprint
from graft.reward import import_callable


class TensorFunction(TensorReward):
    """A callable from (n, C, H, W) float32 pixels to n numbers, by its dotted path.

    It runs in this process.

    A function of PIL images needs no such class: ``--data.reward package.module.function`` gets one image,
    `graft.reward.FunctionReward` with ``batched`` a list of images.

    Args:
        path: ``package.module.function``.
        pixels: Range of the pixels: ``-1..1``, ``0..1``, or ``0..255`` as uint8.
        higher_is_better: False if smaller is better.
        name: Name in tables; the function's own name if not given.
        unit: Unit of the values.
        batch_size: Pictures at a time.
    """

    def __init__(
        self,
        path: str,
        pixels: Literal["-1..1", "0..1", "0..255"] = "-1..1",
        higher_is_better: bool = True,
        name: "str | None" = None,
        unit: str = "",
        batch_size: int = 256,
    ) -> None:
        super().__init__(batch_size)
        self.path, self.pixels, self.higher_is_better, self.unit = path, pixels, higher_is_better, unit
        self.name = name or path.rpartition(".")[2]
        self._function = import_callable(path)

    @override
    def identity(self) -> Any:
        """Return the path of the callable with the hash of its file, and the range of the pixels."""
        return {"function": self.path, "file": fingerprint.source_hash(self._function), "pixels": self.pixels}

    @override
    def values(self, pixels: Tensor, images: Sequence[Image.Image]) -> Tensor:
        if self.pixels == "0..1":
            pixels = (pixels + 1) / 2
        elif self.pixels == "0..255":
            pixels = ((pixels + 1) * 127.5).round().to(torch.uint8)
        found = torch.as_tensor(self._function(pixels)).detach().double().cpu()
        if found.shape != (len(images),):
            raise ValueError(f"{self.path} returned the shape {tuple(found.shape)} for {len(images)} pictures")
        return found
