"""Pictures with scores from a CSV table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from domains.images.dataset.decode import Decoded, decode, in_bytes
from domains.images.picture_tables import make_picture, read_table
from domains.images.pixels import MODES, pil_to_tensor, to_float
from graft.errors import GraftError


@dataclass
class ScoredImages:
    """Pictures with scores.

    Attributes:
        pixels: (n, C, H, W) float32 in [-1, 1].
        labels: (n,) int64; None without classes.
        values: Score of each picture.
        images: Pictures.
        left_out: (record, counted from 1, reason) of the records that cannot be used.
    """

    pixels: Tensor
    labels: "Tensor | None"
    values: list[float]
    images: list[Image.Image]
    left_out: list[tuple[int, str]] = field(default_factory=list)


def read_scored(path: Path, score: str, classes: "int | None", shape: "Sequence[int] | None") -> ScoredImages:
    """Return the usable pictures of a CSV table with their scores and labels.

    Its columns are ``file`` (relative to the table), the score and ``label``.

    Args:
        path: Path of the table, such as an ``index.csv`` of `domains.images.files.write_images`.
        score: Column of the scores.
        classes: Number of classes, above every label; None if labels are not read.
        shape: (C, H, W) that pictures must have; None for the shape of the first one.

    Raises:
        GraftError: The file is no table, or has no such column.
    """
    if path.suffix.lower() != ".csv":
        raise GraftError(f"scored pictures are read from a .csv table of files, not from {str(path)!r}")
    rows = read_table(path)
    missing = [name for name in ("file", score, *(["label"] if classes is not None else [])) if name not in rows[0]]
    if missing:
        raise GraftError(f"{path} has no column {missing[0]!r}; there are: {', '.join(rows[0])}")
    out = ScoredImages(torch.zeros(0), None, [], [])
    usable: list[tuple[int, Decoded, float, int]] = []
    for number, row in enumerate(rows, 1):
        try:
            value, label = _value(row, score), _label(row, classes)
            wanted: Any = shape[0] if shape is not None else None
            usable.append((number, decode(path.parent / (row["file"] or ""), channels=wanted), value, label))
        except ValueError as error:
            out.left_out.append((number, str(error)))
    labels: list[int] = []
    arrays = in_bytes([decoded for _, decoded, _, _ in usable])
    for (number, decoded, value, label), array in zip(usable, arrays, strict=True):
        if isinstance(array, str):
            out.left_out.append((number, array))
            continue
        image = make_picture(array, decoded.about)
        if shape is None:
            shape = (len(image.getbands()), image.height, image.width)
        if (image.height, image.width) != tuple(shape[1:]):
            why = f"{image.width}x{image.height} pixels, where {shape[2]}x{shape[1]} are needed"
            out.left_out.append((number, why))
            continue
        if image.mode != MODES[shape[0]]:
            image = make_picture(np.asarray(image.convert(MODES[shape[0]])), image.info)
        if classes is not None:
            image.info["label"] = label
        out.images.append(image)
        out.values.append(value)
        labels.append(label)
    out.left_out.sort()
    if out.images:
        out.pixels = to_float(pil_to_tensor(out.images))
    if classes is not None:
        out.labels = torch.tensor(labels, dtype=torch.long)
    return out


def _value(row: "dict[str, str | None]", score: str) -> float:
    """Return the score of a row."""
    try:
        value = float(row[score] or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"no score: {score} is {row[score]!r}")
    return value


def _label(row: "dict[str, str | None]", classes: "int | None") -> int:
    """Return the label of a row, 0 if there are no classes."""
    if classes is None:
        return 0
    label = row["label"] or ""
    if not (label.isascii() and label.isdigit() and len(label) < 10 and int(label) < classes):
        raise ValueError(f"the label {label!r} is none of 0 to {classes - 1}")
    return int(label)
