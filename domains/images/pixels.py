"""Between tensors and pictures: objects of the domain are `PIL.Image.Image`, grey (``L``) or ``RGB``.

A picture's ``info`` has what was given to its draw (``label``, ``prompt``), and ``failed`` with the reason where it is
none: pixels that are not finite.
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
    """(B, C, H, W) uint8 of pixels in [-1, 1], those beyond clipped; 0 where they are not finite."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().nan_to_num(0).to(torch.uint8)


def to_float(pixels: Tensor) -> Tensor:
    """The inverse of `quantised`: float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_pil(pixels: Tensor, infos: "Sequence[dict[str, Any]] | None" = None) -> list[Image.Image]:
    """Pictures of (B, C, H, W) pixels in [-1, 1] (or uint8), each with its ``info``.

    Raises:
        GraftError: They have neither 1 nor 3 channels.
    """
    check_channels(pixels.shape[1])
    finite = pixels.flatten(1).isfinite().all(1).tolist()
    values = pixels if pixels.dtype == torch.uint8 else to_uint8(pixels)
    # a copy: Pillow does not copy grey arrays, and a picture must not change with the tensor that it was made of
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
    """(n, C, H, W) uint8 of pictures of one size and mode.

    Raises:
        GraftError: They are not.
    """
    kinds = {(image.mode, image.size) for image in images}
    if len(kinds) != 1:
        raise GraftError(f"{len(images)} pictures of {len(kinds)} modes and sizes cannot be one tensor: give one kind")
    arrays = torch.from_numpy(np.stack([_array(image) for image in images]))
    return arrays.movedim(-1, 1).contiguous()


def check_channels(count: int) -> None:
    """Refuse numbers of channels that no picture has.

    Raises:
        GraftError: It is neither 1 nor 3.
    """
    if count not in MODES:
        raise GraftError(f"pictures have 1 channel (grey) or 3 (RGB), not {count}")


def _array(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode not in MODES.values():
        raise GraftError(f"a picture has the mode {image.mode}, but L and RGB are what can be used: convert it")
    array = np.asarray(image)
    return array if array.ndim == 3 else array[..., None]
