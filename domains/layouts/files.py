"""Write layouts to files: COCO JSON, SVG and PNG."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from domains.layouts.layout import Layout
from domains.layouts.render import png, svg
from graft import __version__
from graft.errors import GraftError
from graft.io.atomic import write_bytes


def write_layouts(items: Sequence[Layout], path: Path, rewards: "Sequence[float] | None" = None) -> None:
    """Write layouts in the format of the path's suffix.

    ``.json``: COCO, each page an image, with boxes in the page's unit (``bbox``) and as fractions (``fraction``); an
    image has its ``reward``, if there is one. ``.svg``, ``.png``: pages in a grid, with a legend.

    Raises:
        GraftError: The suffix is unknown.
    """
    suffix = path.suffix.lower()
    if suffix not in _WRITERS:
        raise GraftError(f"layouts cannot be written to {str(path)!r}: its name must end in {', '.join(_WRITERS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, _WRITERS[suffix](items, rewards))


def coco(items: Sequence[Layout], rewards: "Sequence[float] | None" = None) -> dict[str, Any]:
    """Return a dict in COCO's object detection format (https://cocodataset.org/#format-data).

    Boxes and the polygons of ``segmentation`` are in the page's unit. ``fraction``, ``given`` and ``reward`` are
    graft's own entries.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(items, 1):
        width, height = map(_whole, item.page)
        images.append({"id": number, "width": width, "height": height, "file_name": f"{number}.png"})
        if rewards is not None and number <= len(rewards) and rewards[number - 1] == rewards[number - 1]:
            images[-1]["reward"] = float(rewards[number - 1])
        digits = 2 if min(item.page) >= 100 else 5
        for label, (left, top, right, bottom), given in zip(item.labels, item.boxes.tolist(), item.given, strict=True):
            pixels = (left * width, top * height, (right - left) * width, (bottom - top) * height)
            x, y, w, h = bbox = [round(value, digits) for value in pixels]
            corners = (x, y, x + w, y, x + w, y + h, x, y + h)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": bbox,
                    "segmentation": [[round(value, digits) for value in corners]],
                    "area": round(w * h, 2 * digits),
                    "iscrowd": 0,
                    "fraction": [round(value, 5) for value in (left, top, right - left, bottom - top)],
                    "given": bool(given),
                }
            )
    names = items[0].names if items else ()
    return {
        "info": {"description": "Layouts sampled by graft", "version": __version__, "contributor": "", "url": ""},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(names, 1)],
    }


def _whole(value: float) -> "int | float":
    """Return whole pixels as an integer, which COCO requires, and other values as they are."""
    return int(value) if float(value).is_integer() else float(value)


def _json(items: Sequence[Layout], rewards: "Sequence[float] | None") -> bytes:
    return json.dumps(coco(items, rewards), indent=1).encode()


def _legends(rewards: "Sequence[float] | None") -> "list[str] | None":
    return [f"{value:.3g}" for value in rewards] if rewards is not None else None


_WRITERS: dict[str, Callable[[Sequence[Layout], "Sequence[float] | None"], bytes]] = {
    ".json": _json,
    ".svg": lambda items, rewards: svg(items, _legends(rewards)).encode(),
    ".png": lambda items, rewards: png(items, _legends(rewards)),
}
