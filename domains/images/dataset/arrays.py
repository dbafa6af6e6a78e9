"""Arrays of pictures: ``.npz`` files and the idx files of MNIST."""

import gzip
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.images.dataset.pictures import Pictures, make_pictures
from graft.errors import GraftError

_PIXELS = ("images", "x", "arr_0", "x_train")
_LABELS = ("labels", "y", "arr_1", "y_train")


def read_npz(path: Path) -> Pictures:
    """Return the pictures and labels of an ``.npz`` file.

    Pictures are the array ``images``, ``x``, ``arr_0`` or ``x_train``; labels are ``labels``, ``y``, ``arr_1`` or
    ``y_train``.

    Raises:
        GraftError: There is no such array, it does not hold pictures, or the file is not an ``.npz`` without pickle.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            pixels = next((name for name in _PIXELS if name in file), None)
            labels = next((name for name in _LABELS if name in file), None)
            if pixels is None:
                raise GraftError(f"{path} has no array 'images'; there are: {', '.join(file.files) or 'none'}")
            return make_pictures(file[pixels], file[labels] if labels is not None else None, path)
    except (ValueError, OSError, zipfile.BadZipFile, AttributeError):
        raise GraftError(f"{path} is not a .npz file that can be read without pickle") from None


def read_idx(path: Path) -> Pictures:
    """Return the pictures and labels of an idx3 file, gzipped or not.

    The labels lie in the same folder, in the file with ``labels`` and ``idx1`` in its name.

    Raises:
        GraftError: The file is of another kind or truncated.
    """
    labels = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    there = labels != path and labels.is_file()
    return make_pictures(_idx(path), _idx(labels) if there else None, path)


def is_idx(path: Path) -> bool:
    """Return True if the name is that of an idx file of pictures."""
    return "idx3" in path.name.removesuffix(".gz")


def _idx(path: Path) -> NDArray[Any]:
    """Return the array of an idx file of unsigned bytes.

    Its bytes are two zeros, the type 8, the number of dimensions, big-endian sizes and the values.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error):
        raise GraftError(f"{path} is no gzip file, or is truncated") from None
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        raise GraftError(f"{path} is no idx file of unsigned bytes")
    dimensions = raw[3]
    start = 4 + 4 * dimensions
    shape = tuple(int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
    if len(raw) != start + int(np.prod(shape)):
        raise GraftError(f"{path} is truncated: an array of shape {shape} has {int(np.prod(shape))} bytes")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)
