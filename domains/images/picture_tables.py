"""Tables of picture files: their rows, and pictures with the entries of a row."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graft.errors import GraftError
from graft.io.csv_files import unescape_formula


def read_table(path: Path) -> "list[dict[str, str | None]]":
    """Return the rows of a CSV table, by column.

    Raises:
        GraftError: There is no such file, it is no CSV table, or it has no rows.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [_texts(row) for row in csv.DictReader(file)]
    except FileNotFoundError:
        raise GraftError(f"there is no file {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise GraftError(f"{path} is no CSV table in UTF-8 ({error})") from None
    if not rows:
        raise GraftError(f"{path} has no rows")
    return rows


def _texts(row: dict[str, Any]) -> dict[str, Any]:
    return {name: unescape_formula(cell) if isinstance(cell, str) else cell for name, cell in row.items()}


def make_picture(array: NDArray[np.uint8], info: "Mapping[Any, Any]") -> Image.Image:
    """Return a picture of (H, W, 1 or 3) uint8 with its ``info``.

    It shares no memory with the array.
    """
    image = Image.fromarray(
        np.array(array if array.shape[-1] == 3 and array.ndim == 3 else array.reshape(array.shape[:2]))
    )
    image.info.update(info)
    return image
