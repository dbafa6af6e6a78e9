"""A folder of pictures; if they lie in subfolders, those are the classes."""

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from domains.images.dataset.pictures import Pictures
from graft.errors import GraftError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}


def read_folder(path: Path, size: "int | None", channels: "Literal[1, 3] | None", most_left_out: float) -> Pictures:
    """The pictures below a folder, in the order of their names.

    Args:
        path: Of the folder. Files of other suffixes are not looked at.
        size: Pixels of a side: the shorter side is scaled to it and the middle cut out; None: they are of one size.
        channels: 1: all become grey, 3: RGB; None: they are all grey, or all RGB.
        most_left_out: Share of broken files above which the folder is refused.

    Raises:
        GraftError: There is none, too many are broken, or they differ in size or channels.
    """
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise GraftError(f"there is no picture in {path} ({', '.join(sorted(SUFFIXES))})")
    classes = sorted({file.relative_to(path).parts[0] for file in files if file.parent != path})
    labelled = bool(classes) and all(file.parent != path for file in files)
    arrays: list[NDArray[np.uint8]] = []
    labels: list[int] = []
    left_out: list[tuple[str, str]] = []
    for file in files:
        try:
            arrays.append(_opened(file, size, channels))
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            left_out.append((str(file.relative_to(path)), str(error).splitlines()[0] if str(error) else "broken"))
            continue
        labels.append(classes.index(file.relative_to(path).parts[0]) if labelled else 0)
    if not arrays or len(left_out) > most_left_out * len(files):
        name, why = left_out[0]
        raise GraftError(
            f"{len(left_out)} of the {len(files)} pictures in {path} cannot be read (first: {name}: {why}); the most "
            f"that is allowed is {most_left_out:.0%}: mend them, or raise most_left_out"
        )
    _alike(arrays, path)
    return Pictures(
        np.stack(arrays), np.array(labels, np.int64) if labelled else None, 256, left_out, classes if labelled else []
    )


def _opened(file: Path, size: "int | None", channels: "Literal[1, 3] | None") -> NDArray[np.uint8]:
    with Image.open(file) as opened:
        opened.load()
        image: Image.Image = ImageOps.exif_transpose(opened)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    grey = channels == 1 or (channels is None and image.mode in ("1", "L", "I", "F", "I;16"))
    if image.mode == "I;16":  # PIL would clip them at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("L" if grey else "RGB")
    if size is not None and image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    array = np.asarray(image)
    return array if array.ndim == 3 else array[..., None]


def _alike(arrays: list[NDArray[np.uint8]], path: Path) -> None:
    sizes = Counter(array.shape[:2] for array in arrays)
    if len(sizes) > 1:
        told = ", ".join(f"{count} of {w}x{h}" for (h, w), count in sizes.most_common(3))
        raise GraftError(
            f"the pictures in {path} have {len(sizes)} sizes ({told}{', ...' if len(sizes) > 3 else ''}): "
            "give data.size to scale and crop them to one"
        )
    kinds = Counter(array.shape[2] for array in arrays)
    if len(kinds) > 1:
        raise GraftError(
            f"{kinds[1]} pictures in {path} are grey and {kinds[3]} are in colour: give data.channels, 1 or 3"
        )
