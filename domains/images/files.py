"""Pictures into files and back: a folder of PNG files with a table, ``.npz`` arrays, one picture of all."""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

from domains.images.dataset.arrays import read_npz
from domains.images.dataset.decode import Decoded, decode, in_bytes
from domains.images.grid import draw
from domains.images.pixels import MODES, pil_to_tensor, to_float, to_pil
from graft import files, spreadsheet
from graft.errors import GraftError

TABLE = "index.csv"  # of a folder


def write(images: Sequence[Image.Image], path: "str | Path", rewards: "Sequence[float] | None" = None) -> None:
    """Write pictures in the format of the path's extension.

    ``.npz``: arrays ``images`` (N, H, W) or (N, H, W, 3) uint8, ``labels`` and ``reward`` where there are any; pictures
    of one size. ``.png``: one picture of all. No extension: a folder of PNG files, and ``index.csv`` with a row for
    each (file, what its ``info`` has, reward).

    Raises:
        GraftError: The extension is another, or the folder holds something else.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        arrays: dict[str, Any] = {"images": np.zeros((0, 1, 1), np.uint8)}
        if images:
            arrays["images"] = pil_to_tensor(images).movedim(1, -1).numpy()
            if arrays["images"].shape[-1] == 1:
                arrays["images"] = arrays["images"][..., 0]
        if images and all("label" in image.info for image in images):
            arrays["labels"] = np.array([image.info["label"] for image in images], np.int64)
        if rewards is not None:
            arrays["reward"] = np.array(rewards, np.float64)
        with files.atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    elif path.suffix.lower() == ".png":
        legends = None if rewards is None else [f"{reward:.4g}" for reward in rewards]
        files.write_bytes(path, draw(images, legends=legends))
    elif path.suffix == "":
        _folder(images, path, rewards)
    else:
        raise GraftError(f"pictures cannot be written to {str(path)!r}: give a .npz, a .png or a folder without a dot")


def read(path: "str | Path") -> list[Image.Image]:
    """The pictures that `write` wrote to a folder or an ``.npz``, with their labels and other ``info``.

    Raises:
        GraftError: There are none.
    """
    path = Path(path)
    if path.is_dir():
        return _read_folder(path)
    found = read_npz(files.find_file(path))
    infos = None if found.labels is None else [{"label": label} for label in found.labels.tolist()]
    return to_pil(torch.from_numpy(found.pixels).movedim(-1, 1), infos)


@dataclass
class Scored:
    """Pictures that somebody scored: (n, C, H, W) float32 pixels in [-1, 1], labels, values, and what is left out."""

    pixels: Tensor
    labels: "Tensor | None"
    values: list[float]
    images: list[Image.Image]
    left_out: list[tuple[int, str]] = field(default_factory=list)


def read_scored(path: Path, score: str, classes: "int | None", shape: "Sequence[int] | None") -> Scored:
    """The usable pictures of a CSV table with a column ``file`` (relative to it), one of scores, and ``label``.

    Args:
        path: Of the table, such as the ``index.csv`` that `write` makes.
        score: The column.
        classes: Labels lie below it; None: they are not looked at.
        shape: (C, H, W) that pictures must have; None: that of the first.

    Raises:
        GraftError: The file is of another kind, or has no such column.
    """
    if path.suffix.lower() != ".csv":
        raise GraftError(f"scored pictures are read from a .csv table of files, not from {str(path)!r}")
    rows = _rows(path)
    missing = [name for name in ("file", score, *(["label"] if classes is not None else [])) if name not in rows[0]]
    if missing:
        raise GraftError(f"{path} has no column {missing[0]!r}; there are: {', '.join(rows[0])}")
    out = Scored(torch.zeros(0), None, [], [])
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
        image = _picture(array, decoded.about)
        if shape is None:
            shape = (len(image.getbands()), image.height, image.width)
        if (image.height, image.width) != tuple(shape[1:]):
            why = f"{image.width}x{image.height} pixels, where {shape[2]}x{shape[1]} are needed"
            out.left_out.append((number, why))
            continue
        if image.mode != MODES[shape[0]]:
            image = _picture(np.asarray(image.convert(MODES[shape[0]])), image.info)
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
    """Return the score of a row.

    Raises:
        ValueError: There is none.
    """
    try:
        value = float(row[score] or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"no score: {score} is {row[score]!r}")
    return value


def _label(row: "dict[str, str | None]", classes: "int | None") -> int:
    """Return the label of a row, 0 where there are no classes.

    Raises:
        ValueError: It is none of the classes.
    """
    if classes is None:
        return 0
    label = row["label"] or ""
    if not (label.isascii() and label.isdigit() and len(label) < 10 and int(label) < classes):
        raise ValueError(f"the label {label!r} is none of 0 to {classes - 1}")
    return int(label)


def _folder(images: Sequence[Image.Image], path: Path, rewards: "Sequence[float] | None") -> None:
    if path.exists() and (not path.is_dir() or any(each.suffix not in (".png", ".csv") for each in path.iterdir())):
        raise GraftError(f"pictures cannot be written to {str(path)!r}: it holds something else")
    wide = max(5, len(str(len(images))))
    rows: list[dict[str, Any]] = []
    for i, image in enumerate(images):
        about: dict[str, Any] = {
            str(name): value for name, value in image.info.items() if isinstance(value, str | int | float)
        }
        if rewards is not None:
            about["reward"] = rewards[i]
        rows.append({"file": f"{i:0{wide}d}.png", **about})
        note = PngImagePlugin.PngInfo()
        note.add_itxt("graft", json.dumps(about))
        with files.atomic_write(path / rows[-1]["file"]) as temporary:
            image.save(temporary, "PNG", pnginfo=note)
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["file"]
    with files.atomic_write(path / TABLE) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows({name: spreadsheet.cell(value) for name, value in row.items()} for row in rows)


def _rows(path: Path) -> "list[dict[str, str | None]]":
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
    return {name: spreadsheet.text(cell) if isinstance(cell, str) else cell for name, cell in row.items()}


def _read_folder(path: Path) -> list[Image.Image]:
    rows = _rows(path / TABLE)
    if "file" not in rows[0]:
        raise GraftError(f"{path / TABLE} has no column 'file'; there are: {', '.join(rows[0])}")
    try:
        found = [decode(path / (row["file"] or "")) for row in rows]
    except ValueError as error:
        raise GraftError(f"a picture of {path / TABLE} {error}") from None
    out = []
    for row, decoded, array in zip(rows, found, in_bytes(found), strict=True):
        if isinstance(array, str):
            raise GraftError(f"the picture {row['file']} of {path / TABLE} is none that graft wrote: {array}")
        out.append(_picture(array, {name: row[name] for name in row if name != "file"} | decoded.about))
    return out


def _picture(array: NDArray[np.uint8], info: "Mapping[Any, Any]") -> Image.Image:
    """Return a picture that shares no memory with the array."""
    image = Image.fromarray(
        np.array(array if array.shape[-1] == 3 and array.ndim == 3 else array.reshape(array.shape[:2]))
    )
    image.info.update(info)
    return image
