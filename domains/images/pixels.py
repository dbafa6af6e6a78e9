"""Conversions between tensors and pictures.

Objects are `PIL.Image.Image`, grey (``L``) or ``RGB``.

The ``info`` of a picture has the condition of its draw (``label``, ``prompt``), and under ``failed`` the reason if its
pixels are not finite.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from graft.errors import GraftError

MODES = {1: "L", 3: "RGB"}


def to_uint8(pixels: Tensor) -> Tensor:
    """Return (B, C, H, W) uint8 of pixels clipped to [-1, 1]; 0 for NaN."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().nan_to_num(0).to(torch.uint8)


def to_float(pixels: Tensor) -> Tensor:
    """Return float32 pixels in [-1, 1]: the inverse of `to_uint8`."""
    return pixels.float() / 127.5 - 1


def to_pil(pixels: Tensor, infos: "Sequence[dict[str, Any]] | None" = None) -> list[Image.Image]:
    """Return pictures of (B, C, H, W) pixels in [-1, 1] (or uint8), each with its ``info``.

    Raises:
        GraftError: Pixels have neither 1 nor 3 channels.
    """
    check_channels(pixels.shape[1])
    finite = pixels.flatten(1).isfinite().all(1).tolist()
    values = pixels if pixels.dtype == torch.uint8 else to_uint8(pixels)
    # a copy, since Pillow shares the memory of grey arrays and the tensor may change later
    arrays = np.array(values.movedim(1, -1).cpu().numpy(), order="C")
    out = []
    for i, array in enumerate(arrays):
        picture = Image.fromarray(array if array.shape[-1] == 3 else array[..., 0])
        picture.info.update(infos[i] if infos is not None else {})
        if not finite[i]:
            picture.info["failed"] = "pixels are not finite"
        out.append(picture)
    return out


def pil_to_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Return (n, C, H, W) uint8 of pictures of one size and mode.

    Raises:
        GraftError: Sizes or modes differ.
    """
    kinds = {(image.mode, image.size) for image in images}
    if len(kinds) != 1:
        raise GraftError(f"{len(images)} pictures of {len(kinds)} modes and sizes cannot be one tensor: give one kind")
    arrays = torch.from_numpy(np.stack([_array(image) for image in images]))
    return arrays.movedim(-1, 1).contiguous()


def check_channels(count: int) -> None:
    """Raise GraftError if the number of channels is neither 1 nor 3."""
    if count not in MODES:
        raise GraftError(f"pictures have 1 channel (grey) or 3 (RGB), not {count}")


def _array(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode not in MODES.values():
        raise GraftError(f"a picture has the mode {image.mode}; it must be L or RGB: convert it")
    array = np.asarray(image)
    return array if array.ndim == 3 else array[..., None]
