"""Pictures in memory, with their labels and what could not be used."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graft.errors import GraftError


@dataclass
class Pictures:
    """Pictures of one size.

    Attributes:
        pixels: (N, H, W, C) uint8, C = 1 or 3.
        labels: (N,) int64, or None where there are none.
        grey_levels: Of a channel, evenly spaced from 0 to 255: how coarse the pixels are.
        left_out: (name of the record, why) of what could not be used.
        names: Of the classes, where they have names.
    """

    pixels: NDArray[np.uint8]
    labels: "NDArray[np.int64] | None" = None
    grey_levels: int = 256
    left_out: list[tuple[str, str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def checked(pixels: NDArray[Any], labels: "NDArray[Any] | None", where: object) -> Pictures:
    """Arrays of a file as `Pictures`: uint8, or floats in [-1, 1] or [0, 1]; (N, H, W), (N, H, W, C) or (N, C, H, W).

    Raises:
        GraftError: They are not pictures, or there are not as many labels.
    """
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    if pixels.ndim == 4 and pixels.shape[-1] not in (1, 3) and pixels.shape[1] in (1, 3):
        pixels = np.moveaxis(pixels, 1, -1)
    if pixels.ndim != 4 or not pixels.size:
        raise GraftError(f"{where} has an array of shape {pixels.shape}: pictures are (N, H, W) or (N, H, W, C)")
    if pixels.shape[-1] not in (1, 3):
        raise GraftError(f"{where} has pictures of {pixels.shape[-1]} channels: 1 (grey) and 3 (RGB) can be used")
    if pixels.dtype != np.uint8:
        pixels = _quantised(pixels, where)
    if labels is not None:
        if labels.shape != pixels.shape[:1] or labels.min() < 0 or not (labels == labels.astype(np.int64)).all():
            raise GraftError(f"{where} has {len(pixels)} pictures: it must have a label of 0 or more for each")
        labels = labels.astype(np.int64)
    return Pictures(np.ascontiguousarray(pixels), labels)


def _quantised(pixels: NDArray[Any], where: object) -> NDArray[np.uint8]:
    if not np.issubdtype(pixels.dtype, np.floating):
        if pixels.dtype.kind in "ui" and pixels.min() >= 0 and pixels.max() <= 255:
            return pixels.astype(np.uint8)
        raise GraftError(f"{where} has {pixels.dtype} values beyond 0 to 255: give uint8, or floats in [0, 1]")
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high) and low >= -1 and high <= 1):
        raise GraftError(f"{where} has floats from {low:g} to {high:g}: pixels lie in [0, 1] or in [-1, 1]")
    unit = (pixels + 1) / 2 if low < 0 else pixels
    return (unit * 255).round().astype(np.uint8)
