"""A reader of picture files of any mode of Pillow.

Pictures have 8 bits a channel, are grey or RGB, upright and without alpha.
"""

import functools
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from domains.images.dataset.pictures import DARKEST
from graft.io.json_files import parse_json

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000")
"""Formats that a file may have, whatever its suffix. EPS is not among them: Pillow would run it in another program."""

GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
WHITES = {"16-bit": (65535.0,), "32-bit integer": (255.0, 65535.0), "float": (1.0, 255.0, 65535.0)}
"""Possible values of white in pictures of more than 8 bits; the formats of 16 bits define one."""

ROUNDING = 1e-3  # share of white by which values may exceed the range
TAGS = {"bits": 258, "photometric": 262}  # tags of TIFF
SIGNED_WHITE = 2.0**15 - 1


@dataclass
class Decoded:
    """A picture as read.

    Attributes:
        pixels: (H, W, C) uint8, C = 1 or 3; (H, W, 1) float32 in the file's unit for more than 8 bits.
        depth: Key of `WHITES`; empty for 8 bits.
        highest: Largest value in a file of more than 8 bits.
        white: Value of white, if the file defines it.
        frames: True if the file has several frames, of which the first is read.
        about: Entries that graft wrote into the file.
    """

    pixels: NDArray[Any]
    depth: str = ""
    highest: float = 0.0
    white: "float | None" = None
    frames: bool = False
    about: dict[str, Any] = field(default_factory=dict)


def decode(file: Path, size: "int | None" = None, channels: "Literal[1, 3] | None" = None) -> Decoded:
    """Return the picture of a file, the first one if it holds several.

    Args:
        file: Picture of a format of `FORMATS`.
        size: Side in pixels: the shorter side is scaled to it and the middle cut out; None for no scaling.
        channels: 1 for grey, 3 for RGB; None for the channels of the file.

    Raises:
        ValueError: The file cannot be read, or has values that are no grey; the message is one line.
    """
    try:
        if file.exists() and not file.is_file():
            raise ValueError("it is not a file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of large pictures and of damaged metadata
            with Image.open(file, formats=_formats()) as opened:
                return _decoded(opened, size, channels)
    except Exception as error:  # decoders of damaged bytes raise errors of any type
        lines = str(error).splitlines() or [type(error).__name__]
        raise ValueError(f"cannot be read: {lines[0]}") from None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Return the formats of this Pillow."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def in_bytes(found: "Sequence[Decoded]") -> "list[NDArray[np.uint8] | str]":
    """Return each picture as (H, W, C) uint8, or the reason why it is invalid.

    Pictures of more than 8 bits do not define white, so those of a set must agree: floats reach 1, 255 or 65,535,
    32-bit integers 255 or 65,535, and 16 bits have 65,535.
    """
    out: list[NDArray[np.uint8] | str] = [each.pixels if not each.depth else "" for each in found]
    for depth, declared in {(each.depth, each.white) for each in found if each.depth}:
        places = [i for i, each in enumerate(found) if (each.depth, each.white) == (depth, declared)]
        own = {i: _white(found[i]) for i in places}
        often = Counter(white for white in own.values() if white is not None)
        white = max(often, key=lambda each: (often[each], each)) if often else 0.0
        reach = max((found[i].highest for i, each in own.items() if each is not None and each <= white), default=0.0)
        for i in places:
            out[i] = _scaled(found[i], own[i], white, reach)
    return out


def _decoded(opened: Any, size: "int | None", channels: "Literal[1, 3] | None") -> Decoded:
    opened.load()
    about = _about(opened.info.get("graft"))
    tags = {name: opened.tag_v2.get(tag) for name, tag in TAGS.items()} if opened.format == "TIFF" else {}
    kind = opened.format
    image: Image.Image = ImageOps.exif_transpose(opened)
    try:
        opened.seek(1)
        frames = True
    except Exception:  # there is no second frame, or it cannot be read
        frames = False
    grey = channels == 1 or (channels is None and image.mode in GREY)
    if image.mode.startswith(("I", "F")):
        found = _deep(image, kind, tags)
        image = Image.fromarray(found.pixels)
    else:
        found = Decoded(np.zeros(0))
        image = _flat(image).convert("L" if grey else "RGB")
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    array = np.asarray(image)
    found.pixels = array if array.ndim == 3 else array[..., None]
    if found.depth and not grey:
        found.pixels = np.repeat(found.pixels, 3, -1)
    found.frames, found.about = frames, about
    return found


def _flat(image: Image.Image) -> Image.Image:
    """Return a picture of 8 bits on white, without alpha, that converts to grey or RGB."""
    if image.mode == "LAB":
        source, target = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
        assert converted is not None
        return converted
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        grey = image.mode in GREY
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
        return image.convert("L" if grey else "RGB")
    return image.convert("RGB") if image.mode not in ("1", "L") else image


def _deep(image: Image.Image, kind: str, tags: dict[str, Any]) -> Decoded:
    """Return a picture of more than 8 bits as float32 (H, W), in the unit of the file."""
    bits = min(tags.get("bits") or (0,))
    depth = "float" if image.mode == "F" else "32-bit integer"
    if image.mode.startswith("I;16") or (image.mode == "I" and (kind in ("PNG", "PPM") or bits == 16)):
        depth = "16-bit"
    values = np.asarray(image).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("it has values that are not finite")
    low, high = float(values.min()), float(values.max())
    white: float | None = None
    if depth == "16-bit":
        white = SIGNED_WHITE if image.mode == "I" and bits else 2.0 ** (bits or 16) - 1
        if isinstance(clear := image.info.get("transparency"), int):
            values[values == clear] = white
    if low < -ROUNDING:
        raise ValueError(f"it has values from {low:g} to {high:g}, and negative ones are no grey")
    if tags.get("photometric") == 0:  # 0 is white; Pillow inverts only 8 bits
        if white is None:
            raise ValueError("its 0 is white, and its black is not defined")
        values, high = white - values, white - low
    return Decoded(values.astype(np.float32), depth, high, white)


def _white(picture: Decoded) -> "float | None":
    """Return the lowest white that the values allow."""
    whites = WHITES[picture.depth] if picture.white is None else (picture.white,)
    return next((white for white in whites if picture.highest <= white * (1 + ROUNDING)), None)


def _scaled(picture: Decoded, own: "float | None", white: float, reach: float) -> "NDArray[np.uint8] | str":
    """Return the picture in 8 bits, or the reason why it is invalid.

    Args:
        picture: Picture of more than 8 bits.
        own: White that its values allow.
        white: White of the set.
        reach: Highest value of the set.
    """
    if own is None:
        return f"its {picture.depth} values reach {picture.highest:g}, beyond any white: scale them to 8 or 16 bits"
    if own > white:
        return f"its {picture.depth} values reach {picture.highest:g}, where white is {white:g} in the others"
    if 0 < reach < DARKEST * white:
        return f"{picture.depth} values that reach {reach:g} of {white:g} would be black: scale them, or save 8 bits"
    unit = picture.pixels.clip(0, white)
    eight: NDArray[np.uint8] = (unit // 256 if white == 65535 else (unit * (255 / white)).round()).astype(np.uint8)
    return eight


def _about(note: Any) -> dict[str, Any]:
    """Return the entries that graft wrote into a picture; {} if another program used the name."""
    try:
        found = parse_json(note) if isinstance(note, str) else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
