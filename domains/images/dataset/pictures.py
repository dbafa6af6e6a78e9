"""Pictures in memory, with their labels and the invalid records of their source."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graft.errors import GraftError

DARKEST = 1 / 8  # share of white; a set without brighter pixels is in another unit
LEAST = -0.5  # floats in [-1, 1] have a lower value than this


@dataclass
class Pictures:
    """Pictures of one size.

    Attributes:
        pixels: (N, H, W, C) uint8, C = 1 or 3.
        labels: (N,) int64; None without labels.
        grey_levels: Number of evenly spaced values of a channel, from 0 to 255.
        left_out: (name of the record, reason) of the invalid records.
        names: Names of the classes, if they have names.
        notes: Messages for the user about the reading.
    """

    pixels: NDArray[np.uint8]
    labels: "NDArray[np.int64] | None" = None
    grey_levels: int = 256
    left_out: list[tuple[str, str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.pixels)


def make_pictures(pixels: NDArray[Any], labels: "NDArray[Any] | None", where: object) -> Pictures:
    """Return arrays of a file as `Pictures`.

    Args:
        pixels: (N, H, W), (N, H, W, C) or (N, C, H, W) integers in 0 to 255, floats in [0, 1] or [-1, 1], or booleans.
        labels: (N,) whole numbers from 0 on, if there are any.
        where: Name of the file in messages.

    Raises:
        GraftError: The arrays are not pictures, their range is another one, or the number of labels differs.
    """
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim == 4 and pixels.shape[-1] not in (1, 3) and pixels.shape[1] in (1, 3):
        pixels = np.moveaxis(pixels, 1, -1)
    if pixels.ndim != 4 or not pixels.size:
        raise GraftError(f"{where} has an array of shape {pixels.shape}: pictures are (N, H, W) or (N, H, W, C)")
    if pixels.shape[-1] not in (1, 3):
        raise GraftError(f"{where} has pictures of {pixels.shape[-1]} channels: 1 (grey) and 3 (RGB) can be used")
    pixels = _quantised(pixels, where)
    if labels is not None:
        if labels.dtype.kind not in "uif":
            raise GraftError(
                f"{where} has labels of type {labels.dtype}: give a class of 0 or more, a number, for each"
            )
        if labels.shape != pixels.shape[:1] or not (labels >= 0).all():
            raise GraftError(f"{where} has {len(pixels)} pictures: it must have a label of 0 or more for each")
        if not (labels == labels.astype(np.int64)).all():
            raise GraftError(f"{where} has labels that are no whole numbers: give a class of 0 or more for each")
        labels = labels.astype(np.int64)
    return Pictures(np.ascontiguousarray(pixels), labels)


def _quantised(pixels: NDArray[Any], where: object) -> NDArray[np.uint8]:
    """Return 8 bits a channel."""
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "uif":
        raise GraftError(f"{where} has pixels of type {pixels.dtype}: give uint8, or floats in [0, 1]")
    low, high = float(pixels.min()), float(pixels.max())
    if pixels.dtype.kind in "ui":
        if low < 0 or high > 255:
            raise GraftError(f"{where} has {pixels.dtype} values beyond 0 to 255: give uint8, or floats in [0, 1]")
        if 0 < high < (2 if pixels.dtype == np.uint8 else DARKEST * 255):
            raise GraftError(f"{where} has integers that reach {high:g} of 255 and would be black: scale them to 255")
        return pixels.astype(np.uint8)
    if not (np.isfinite(low) and np.isfinite(high) and low >= -1 and high <= 1):
        raise GraftError(f"{where} has floats from {low:g} to {high:g}: pixels lie in [0, 1] or in [-1, 1]")
    if LEAST < low < 0:
        raise GraftError(
            f"{where} has floats from {low:g} to {high:g}, which may be meant in [0, 1] or in [-1, 1]: clip them at 0, "
            "or give uint8"
        )
    unit = (pixels + 1) / 2 if low < 0 else pixels
    return (unit * 255).round().astype(np.uint8)
