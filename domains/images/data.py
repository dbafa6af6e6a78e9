"""Pictures for training on data: a LightningDataModule over any source of `dataset`."""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from domains.images.dataset.pictures import Pictures
from domains.images.dataset.read import describe_pictures, read_pictures
from domains.images.pixels import to_float
from graft.core import limits
from graft.core.distributed import rank_zero_print
from graft.dataloaders.in_memory import InMemoryDataModule
from graft.io.invalid_records import describe_invalid

Batch = dict[str, Tensor]


class PictureSet(Dataset[Any]):
    """Pictures as float32 (C, H, W) in [-1, 1], fetched by the batch.

    A batch is {"pixels": (B, C, H, W), "label": (B,)}, without ``label`` if there are no labels.

    Args:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64; None without labels.
        noise: Width of the uniform noise that is added to a pixel, in units of [-1, 1].
    """

    def __init__(self, pixels: Tensor, labels: "Tensor | None", noise: float = 0.0) -> None:
        self.pixels, self.labels, self.noise = pixels, labels, noise

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Any:
        return {name: value[0] for name, value in self.__getitems__([index]).items()}

    def __getitems__(self, indices: "list[int]") -> Batch:
        chosen = torch.tensor(indices)
        x = to_float(self.pixels[chosen])
        if self.noise:
            x = x + self.noise * (torch.rand_like(x) - 0.5)
        return {"pixels": x} | ({} if self.labels is None else {"label": self.labels[chosen]})


class ImageData(InMemoryDataModule[PictureSet]):
    """Pictures for training, split into training and validation, in memory as bytes.

    Args:
        source: ``digits`` (scikit-learn's 8x8 digits), a folder (its subfolders are the classes), or the path of an
            ``.npz`` (arrays ``images`` and, if there are classes, ``labels``) or idx file.
        size: Side in pixels to which pictures are scaled and cropped; ``null`` for pictures of one size, as they are.
        channels: 1 for grey, 3 for RGB; ``null`` for the channels of the pictures.
        batch_size: Pictures per batch.
        dequantize_width: Width of the uniform noise that is added to each pixel, in steps between grey levels; 0 for
            none. Only with noise do data have a density, which flows need that are to be inverted.
        flip: Add a copy of each training picture, mirrored left to right.
        limit: Number of pictures that are used, chosen at random with ``seed``; ``null`` for all.
        val_fraction: Share of the pictures in the validation part.
        max_invalid_fraction: Share of broken files above which a folder is refused.
        seed: Seed of the split.
    """

    noun = "pictures"

    def __init__(
        self,
        source: str = "digits",
        size: "int | None" = None,
        channels: "Literal[1, 3] | None" = None,
        batch_size: int = 128,
        dequantize_width: float = 0.0,
        flip: bool = False,
        limit: "int | None" = None,
        val_fraction: float = 0.05,
        max_invalid_fraction: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__(source, batch_size, limit, val_fraction, seed)
        limits.check("data.size", size, 1)
        limits.check("data.dequantize_width", dequantize_width, 0)
        limits.check("data.max_invalid_fraction", max_invalid_fraction, 0, 1)
        self.size, self.channels, self.max_invalid_fraction = size, channels, max_invalid_fraction
        self.dequantize_width, self.flip = dequantize_width, flip
        self.left_out: list[tuple[str, str]] = []
        """(file, reason) of the records that cannot be used; known after `setup`."""

    @override
    def read(self) -> tuple[Pictures, str]:
        found = read_pictures(self.source, self.size, self.channels, self.max_invalid_fraction)
        self.left_out = found.left_out
        rank_zero_print(describe_pictures(found, self.source))
        return found, describe_invalid(found.left_out)

    @override
    def part(self, samples: Pictures, rows: NDArray[np.int64], training: bool) -> PictureSet:
        pixels = torch.from_numpy(samples.pixels[rows]).movedim(-1, 1).contiguous()
        labels = None if samples.labels is None else torch.from_numpy(samples.labels[rows])
        if self.flip and training:
            pixels = torch.cat([pixels, pixels.flip(-1)])
            labels = None if labels is None else torch.cat([labels, labels])
        return PictureSet(pixels, labels, self.dequantize_width * 2 / (samples.grey_levels - 1))


def read_tensor(source: str, size: "int | None", channels: "Literal[1, 3] | None") -> Tensor:
    """Return (N, C, H, W) uint8 pixels of a source, and print the invalid records.

    Args:
        source: Source of `dataset.read.read`.
        size: Side in pixels to which pictures are scaled and cropped; None for their own.
        channels: 1 for grey, 3 for RGB; None for the channels of the pictures.
    """
    found = read_pictures(source, size, channels)
    if found.left_out or found.notes:
        rank_zero_print(describe_pictures(found, source))
    return torch.from_numpy(found.pixels).movedim(-1, 1).contiguous()
