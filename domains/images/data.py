"""Pictures for training a model on data: a LightningDataModule over any source of `dataset`."""

from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from domains.images.dataset.pictures import Pictures
from domains.images.dataset.read import describe, read
from domains.images.pixels import to_float
from graft.batches.training_data import identity_collate
from graft.distributed import rank_zero_print
from graft.errors import GraftError

Batch = dict[str, Tensor]


class PictureSet(Dataset[Any]):
    """Pictures as float32 (C, H, W) in [-1, 1], fetched by the batch: {"pixels": (B, C, H, W), "label": (B,)}.

    Args:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64; None where there are none.
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


class ImageData(LightningDataModule):
    """Pictures for training, split into training and validation; they are held in memory as bytes.

    Args:
        source: ``digits`` (scikit-learn's 8x8 digits), a folder (its subfolders are the classes), or the path of an
            ``.npz`` (arrays ``images`` and, if there are classes, ``labels``) or idx file.
        size: Pixels of a side to which pictures are scaled and cropped; ``null``: as they are, which must be one size.
        channels: 1: grey, 3: RGB; ``null``: as they are.
        batch_size: Pictures per batch.
        dequantise: Width of the uniform noise that is added to each pixel, in steps between grey levels: a density
            exists only then, which flows need that are to be inverted; 0: none.
        flip: Have each training picture also mirrored left to right.
        limit: Use only this many pictures, drawn with ``seed``.
        validation: Share that is kept for validation.
        max_invalid_fraction: Share of broken files above which a folder is refused.
        seed: Of the split.
    """

    def __init__(
        self,
        source: str = "digits",
        size: "int | None" = None,
        channels: "Literal[1, 3] | None" = None,
        batch_size: int = 128,
        dequantise: float = 0.0,
        flip: bool = False,
        limit: "int | None" = None,
        validation: float = 0.05,
        max_invalid_fraction: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if dequantise < 0:
            raise GraftError(f"data.dequantize_std is {dequantise:g}, but a width is at least 0")
        self.source, self.size, self.channels, self.batch_size = source, size, channels, batch_size
        self.dequantise, self.flip, self.limit = dequantise, flip, limit
        self.validation, self.max_invalid_fraction, self.seed = validation, max_invalid_fraction, seed
        self.left_out: list[tuple[str, str]] = []
        """(file, why) of what could not be used; known after `setup`."""
        self._parts: tuple[PictureSet, PictureSet] | None = None

    def setup(self, stage: "str | None" = None) -> None:
        """Read and split the pictures, once.

        Raises:
            GraftError: The source cannot be read, or has too few pictures.
        """
        if self._parts is not None:
            return
        found = read(self.source, self.size, self.channels, self.max_invalid_fraction)
        self.left_out = found.left_out
        rank_zero_print(describe(found, self.source))
        order = np.random.default_rng(self.seed).permutation(len(found.pixels))[: self.limit]
        held_out = max(1, round(len(order) * self.validation))
        if len(order) <= held_out:
            raise GraftError(f"{self.source!r} has {len(order)} pictures, too few to train on")
        self._parts = self._set(found, order[held_out:], self.flip), self._set(found, order[:held_out], False)

    def _set(self, found: Pictures, order: Any, flip: bool) -> PictureSet:
        pixels = torch.from_numpy(found.pixels[order]).movedim(-1, 1).contiguous()
        labels = None if found.labels is None else torch.from_numpy(found.labels[order])
        if flip:
            pixels = torch.cat([pixels, pixels.flip(-1)])
            labels = None if labels is None else torch.cat([labels, labels])
        return PictureSet(pixels, labels, self.dequantise * 2 / (found.grey_levels - 1))

    @property
    def training(self) -> PictureSet:
        """The training pictures."""
        self.setup()
        assert self._parts is not None
        return self._parts[0]

    @property
    def held_out(self) -> PictureSet:
        """The pictures of the validation part."""
        self.setup()
        assert self._parts is not None
        return self._parts[1]

    def train_dataloader(self) -> "DataLoader[Any]":
        """Shuffled batches."""
        return DataLoader(self.training, self.batch_size, shuffle=True, collate_fn=identity_collate)

    def val_dataloader(self) -> "DataLoader[Any]":
        """Batches of the validation part."""
        return DataLoader(self.held_out, self.batch_size, collate_fn=identity_collate)
