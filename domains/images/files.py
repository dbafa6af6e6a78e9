"""Pictures into files and back: a folder of PNG files with a table, ``.npz`` arrays, one picture of all."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from domains.images.dataset.arrays import read_npz
from domains.images.grid import draw
from domains.images.pixels import MODES, pictures, scaled, tensor
from graft import files, plain_json
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
            arrays["images"] = tensor(images).movedim(1, -1).numpy()
            if arrays["images"].shape[-1] == 1:
                arrays["images"] = arrays["images"][..., 0]
        if images and all("label" in image.info for image in images):
            arrays["labels"] = np.array([image.info["label"] for image in images], np.int64)
        if rewards is not None:
            arrays["reward"] = np.array(rewards, np.float64)
        with files.atomic(path) as temporary, open(temporary, "wb") as file:
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
        return [_opened(path / row.pop("file"), row) for row in _rows(path / TABLE)]
    found = read_npz(files.locate(path))
    infos = None if found.labels is None else [{"label": label} for label in found.labels.tolist()]
    return pictures(torch.from_numpy(found.pixels).movedim(-1, 1), infos)


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
    for number, row in enumerate(rows, 1):
        try:
            image, value = _usable(path.parent / row["file"], row, score, classes, shape)
        except (ValueError, OSError, SyntaxError) as error:
            out.left_out.append((number, str(error).splitlines()[0] if str(error) else "broken"))
            continue
        shape = shape if shape is not None else (len(image.getbands()), image.height, image.width)
        out.images.append(image)
        out.values.append(value)
    if out.images:
        out.pixels = scaled(tensor(out.images))
    if classes is not None:
        out.labels = torch.tensor([image.info["label"] for image in out.images], dtype=torch.long)
    return out


def _usable(
    file: Path, row: dict[str, str], score: str, classes: "int | None", shape: "Sequence[int] | None"
) -> tuple[Image.Image, float]:
    try:
        value = float(row[score])
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"no score: {score} is {row[score]!r}")
    image = _opened(file, {})
    if shape is not None:
        image = image.convert(MODES[shape[0]])
        if (image.height, image.width) != tuple(shape[1:]):
            raise ValueError(f"{image.width}x{image.height} pixels, where {shape[2]}x{shape[1]} are needed")
    if classes is not None:
        label = row["label"]
        if not label.isdigit() or int(label) >= classes:
            raise ValueError(f"the label {label!r} is none of 0 to {classes - 1}")
        image.info["label"] = int(label)
    return image, value


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
        with files.atomic(path / rows[-1]["file"]) as temporary:
            image.save(temporary, "PNG", pnginfo=note)
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["file"]
    with files.atomic(path / TABLE) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, names)
        table.writeheader()
        table.writerows(rows)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise GraftError(f"there is no file {path}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise GraftError(f"{path} is no CSV table in UTF-8 ({error})") from None
    if not rows:
        raise GraftError(f"{path} has no rows")
    return rows


def _opened(file: Path, row: dict[str, str]) -> Image.Image:
    with Image.open(file) as opened:
        opened.load()
        about = plain_json.parse(opened.info.get("graft", "{}"))
        image: Image.Image = opened.convert("L" if opened.mode in ("1", "L", "I", "F", "I;16") else "RGB")
    image.info.clear()
    image.info.update({**row, **about})
    return image
