"""Write pictures: PNG files with a table, ``.npz`` arrays, a grid."""

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from domains.images.grid import render_grid
from domains.images.pixels import pil_to_tensor
from graft.errors import GraftError
from graft.io.atomic import atomic_write, write_bytes
from graft.io.csv_files import write_csv

TABLE = "index.csv"  # table of a folder


def write_images(images: Sequence[Image.Image], path: "str | Path", rewards: "Sequence[float] | None" = None) -> None:
    """Write pictures in the format of the path's suffix.

    ``.npz``: arrays ``images`` (N, H, W) or (N, H, W, 3) uint8, and ``labels`` and ``reward`` if there are any;
    pictures of one size. ``.png``: a grid. No suffix: a folder of PNG files, and ``index.csv`` with a row for each
    (file, entries of its ``info``, reward). A failed reward is NaN in an array, and left out elsewhere.

    Raises:
        GraftError: The suffix is another, or the folder holds other files.
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
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    elif path.suffix.lower() == ".png":
        legends = (
            None if rewards is None else [f"{reward:.4g}" if math.isfinite(reward) else "failed" for reward in rewards]
        )
        write_bytes(path, render_grid(images, legends=legends))
    elif path.suffix == "":
        _folder(images, path, rewards)
    else:
        raise GraftError(f"pictures cannot be written to {str(path)!r}: give a .npz, a .png or a folder without a dot")


def to_file(image: Image.Image) -> tuple[str, bytes]:
    """Return (suffix, content) of a PNG file of one picture.

    Raises:
        GraftError: Pixels of the picture are not finite.
    """
    if "failed" in image.info:
        raise GraftError(image.info["failed"])
    out = io.BytesIO()
    image.save(out, "PNG")
    return ".png", out.getvalue()


def _folder(images: Sequence[Image.Image], path: Path, rewards: "Sequence[float] | None") -> None:
    if path.exists() and (not path.is_dir() or any(each.suffix not in (".png", ".csv") for each in path.iterdir())):
        raise GraftError(f"pictures cannot be written to {str(path)!r}: it holds something else")
    wide = max(5, len(str(len(images))))
    rows: list[dict[str, Any]] = []
    for i, image in enumerate(images):
        about: dict[str, Any] = {
            str(name): value for name, value in image.info.items() if isinstance(value, str | int | float)
        }
        if rewards is not None and math.isfinite(rewards[i]):
            about["reward"] = rewards[i]
        rows.append({"file": f"{i:0{wide}d}.png", **about})
        note = PngImagePlugin.PngInfo()
        note.add_itxt("graft", json.dumps(about))
        with atomic_write(path / rows[-1]["file"]) as temporary:
            image.save(temporary, "PNG", pnginfo=note)
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["file"]
    write_csv(path / TABLE, names, [[row.get(name) for name in names] for row in rows], line_end="\r\n")
