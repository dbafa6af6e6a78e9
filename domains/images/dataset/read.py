"""Pictures of any source, converted to one size and number of channels."""

from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from domains.images.dataset import digits
from domains.images.dataset.arrays import is_idx, read_idx, read_npz
from domains.images.dataset.folder import read_folder
from domains.images.dataset.pictures import Pictures
from graft.errors import GraftError
from graft.io.invalid_records import describe_invalid
from graft.io.paths import find_file

__all__ = ["Pictures", "describe_pictures", "read_pictures"]

MOST_NAMES = 20  # names of classes in a message


def read_pictures(
    source: str, size: "int | None" = None, channels: "Literal[1, 3] | None" = None, max_invalid_fraction: float = 0.1
) -> Pictures:
    """Return the pictures of a source.

    Args:
        source: ``digits``, a folder, or the path of an ``.npz`` or idx file; a shipped file by its name.
        size: Side in pixels; None for the size of the pictures.
        channels: 1 for grey, 3 for RGB; None for the channels of the pictures.
        max_invalid_fraction: Share of broken files above which a folder is refused.

    Raises:
        GraftError: The source is unknown, missing or invalid.
    """
    path = _found(source)
    if source == "digits":
        found = digits.read_digits()
    elif path.is_dir():
        return read_folder(path, size, channels, max_invalid_fraction)
    elif not path.is_file():
        raise GraftError(f"there are no pictures {source!r}: give 'digits', a folder, or an .npz or idx file")
    elif path.suffix.lower() == ".npz":
        found = read_npz(path)
    elif is_idx(path):
        found = read_idx(path)
    else:
        raise GraftError(f"pictures are read from 'digits', a folder, .npz and idx3 files, not from {source!r}")
    return _converted(found, size, channels)


def _found(source: str) -> Path:
    """Return the path of a source; a file is looked up in the installed packages, too."""
    try:
        return find_file(source)
    except GraftError:
        return Path(source)


def describe_pictures(found: Pictures, source: str) -> str:
    """Return a line about pictures: their number, their classes and the invalid records."""
    some = ", ".join(found.names[:MOST_NAMES]) + (", ..." if len(found.names) > MOST_NAMES else "")
    parts = [f"{len(found.pixels)} pictures from {source}"]
    parts += [f"{len(found.names)} classes ({some})" if len(found.names) > 1 else f"1 class ({some})"] if some else []
    return "; ".join([*parts, *found.notes, *filter(None, [describe_invalid(found.left_out)])])


def _converted(found: Pictures, size: "int | None", channels: "Literal[1, 3] | None") -> Pictures:
    pixels = found.pixels
    if size is not None and pixels.shape[1:3] != (size, size):
        modes = [Image.fromarray(p if p.shape[-1] == 3 else p[..., 0]) for p in pixels]
        scaled = [np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)) for image in modes]
        pixels = np.stack(scaled).reshape(len(pixels), size, size, -1)
        found.grey_levels = 256
    if channels is not None and pixels.shape[-1] != channels:
        if channels == 3:
            pixels = np.repeat(pixels, 3, -1)
        else:
            pixels = np.stack([np.asarray(Image.fromarray(p).convert("L")) for p in pixels])[..., None]
            found.grey_levels = 256
    found.pixels = pixels
    return found
