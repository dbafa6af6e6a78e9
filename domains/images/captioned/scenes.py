"""Pictures of captions: emoji of an ``.npz`` file in named colours on plain backgrounds."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn

from domains.images.captioned.captions import BACKGROUNDS, COLOURS, OBJECTS, Caption
from graft.errors import GraftError

SIDE = 32
"""Side of a picture in pixels."""

SIZES = (26, 28, 30)
"""Sides of an object in pixels."""


class Scenes:
    """Draws pictures of captions.

    Each picture has a random size and place of its object, and slightly varied colours.

    Args:
        source: ``.npz`` file with ``rgba`` (n, h, w, 4) uint8 and ``name`` (n,) of emoji.

    Raises:
        GraftError: The file cannot be read, or it lacks an emoji.
    """

    def __init__(self, source: "str | Path") -> None:
        pictures = _read(source)
        self._sprites = [torch.stack([_scaled(rgba, size) for rgba in pictures]) for size in SIZES]

    def draw(self, captions: Sequence[Caption], generator: Generator) -> Tensor:
        """Return (n, 3, 32, 32) uint8 pictures of captions; an open colour or background is drawn."""
        n = len(captions)
        numbers = torch.rand(n, 5, generator=generator)
        shades = torch.rand(n, 2, 3, generator=generator) * 24 - 12
        canvas = torch.zeros(n, 2, SIDE, SIDE)
        names = list(OBJECTS)
        for i, caption in enumerate(captions):
            sprite = self._sprites[int(numbers[i, 0] * len(SIZES))][names.index(caption.object)]
            size = sprite.shape[-1]
            top, left = (int(numbers[i, j] * (SIDE - size + 1)) for j in (1, 2))
            canvas[i, :, top : top + size, left : left + size] = sprite
        colours = _chosen([caption.colour for caption in captions], COLOURS, numbers[:, 3])
        grounds = _chosen([caption.background for caption in captions], BACKGROUNDS, numbers[:, 4])
        colour = (colours + shades[:, 0]).clamp(0, 255)[..., None, None]
        ground = (grounds + shades[:, 1]).clamp(0, 255)[..., None, None]
        alpha, light = canvas[:, :1], canvas[:, 1:]
        dark = colour * (0.2 + 1.6 * light)
        bright = colour + (255 - colour) * (light - 0.5) * 1.5
        painted = torch.where(light < 0.5, dark, bright)
        return (painted * alpha + ground * (1 - alpha)).clamp(0, 255).round().to(torch.uint8)


def _chosen(names: Sequence[str], among: "dict[str, tuple[int, int, int]]", numbers: Tensor) -> Tensor:
    """Return (n, 3) colours by name; a random one where the name is ""."""
    known = list(among)
    return torch.tensor(
        [among[name or known[int(number * len(known))]] for name, number in zip(names, numbers, strict=True)]
    ).float()


def _scaled(rgba: Tensor, size: int) -> Tensor:
    """Return (2, size, size) alpha and lightness in [0, 1] of an emoji; the mean lightness is 0.5."""
    alpha = rgba[3:]
    light = (rgba[:3] * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    both = torch.cat([alpha, light * alpha])[None]  # premultiplied, so that transparent pixels have no lightness
    alpha, light = nn.functional.interpolate(both, (size, size), mode="bilinear", antialias=True)[0].clamp(0, 1)
    light = torch.where(alpha > 1e-3, light / alpha.clamp(min=1e-3), 0.5)
    mean = (light * alpha).sum() / alpha.sum().clamp(min=1e-3)
    return torch.stack([alpha, (0.5 + (light - mean)).clamp(0, 1)])


def _read(source: "str | Path") -> list[Tensor]:
    """Return (4, h, w) floats in [0, 1] of the emoji of `OBJECTS`."""
    try:
        with np.load(source, allow_pickle=False) as stored:
            rgba, names = stored["rgba"], [str(name) for name in stored["name"]]
    except FileNotFoundError:
        raise GraftError(f"there is no file of emoji at {str(source)!r}: name one with --source") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise GraftError(f"{source} holds no emoji ({error}): it must be an .npz with rgba and name") from None
    if rgba.dtype != np.uint8 or rgba.ndim != 4 or rgba.shape[-1] != 4 or len(names) != len(rgba):
        raise GraftError(f"{source} holds no emoji: rgba must be (n, h, w, 4) uint8 with n names")
    missing = [name for name in OBJECTS.values() if name not in names]
    if missing:
        raise GraftError(f"{source} lacks the emoji {', '.join(missing)}: give the file of all emoji")
    return [torch.from_numpy(rgba[names.index(name)]).movedim(-1, 0).float() / 255 for name in OBJECTS.values()]
