"""COCO object annotations, the format of PubLayNet: images are pages, annotations elements.

Categories are the classes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.layouts.readers.record import Element, LayoutRecord, Unusable, numbers
from graft.errors import GraftError

ENOUGH = 0.95  # share of the boxes (or areas) that a convention must explain
SLACK = 1.01  # a box may reach to this multiple of the page's size


def fits(content: Any) -> bool:
    """Return True if parsed JSON has the schema of COCO."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content)


def records(content: Any, path: Path) -> "Iterator[LayoutRecord | Unusable]":
    """Yield the elements of each image; ``bbox`` is left, top, width, height in pixels.

    Raises:
        GraftError: The file has no lists of images, annotations and categories, or its boxes are in another unit.
    """
    for name in ("images", "annotations", "categories"):
        if not isinstance(content[name], list):
            raise GraftError(f"{path} is not a COCO file of boxes: its {name} are not a list")
    names = _names(content["categories"], path)
    sizes: dict[Any, list[float]] = {}
    pages: dict[Any, LayoutRecord] = {}
    for number, image in enumerate(content["images"], 1):
        if not isinstance(image, dict) or not _is_id(image.get("id")):
            yield Unusable("images without an id", f"image number {number}", layout=True)
            continue
        name, size = f"image {image['id']}", numbers([image.get("width"), image.get("height")], 2)
        if image["id"] in pages:
            yield Unusable("images with an id that occurs twice", name, layout=True)
        elif size is None or min(size) <= 0:
            yield Unusable("images without a width and a height", name, layout=True)
        else:
            sizes[image["id"]] = size
        pages.setdefault(image["id"], LayoutRecord(name))
    yield from _fill(content["annotations"], names, sizes, pages, path)
    yield from (page for image, page in pages.items() if image in sizes)


def _names(categories: "list[Any]", path: Path) -> dict[Any, str]:
    """Return the name of each category by its id; categories without name or id are left out."""
    found: dict[Any, str] = {}
    for each in categories:
        if not isinstance(each, dict) or "name" not in each or not _is_id(each.get("id")):
            continue
        name = str(each["name"])
        if found.setdefault(each["id"], name) != name:
            raise GraftError(
                f"{path} is not a COCO file of boxes: category {each['id']} is both {found[each['id']]!r} and {name!r}"
            )
    return found


def _fill(
    annotations: "list[Any]",
    names: dict[Any, str],
    sizes: "dict[Any, list[float]]",
    pages: dict[Any, LayoutRecord],
    path: Path,
) -> "Iterator[Unusable]":
    """Put the annotations into their pages; yield those without a page."""
    seen: set[tuple[Any, ...]] = set()
    measured: list[list[float]] = []
    for number, each in enumerate(annotations, 1):
        if not isinstance(each, dict):
            yield Unusable("annotations that are no objects", f"annotation number {number}")
            continue
        name = f"annotation {each['id']}" if _is_id(each.get("id")) else f"annotation number {number}"
        image = each.get("image_id") if _is_id(each.get("image_id")) else None
        if image is None or image not in pages:
            yield Unusable("annotations of an image that is not there", name)
            continue
        if image not in sizes:  # the whole page is invalid
            continue
        name = f"{name} of image {image}"
        if each.get("iscrowd"):
            pages[image].elements.append(Unusable("annotations of crowds", name, faulty=False))
            continue
        category, box = each.get("category_id"), numbers(each.get("bbox"), 4)
        if not _is_id(category):
            found: Element | Unusable = Unusable("annotations without a category", name)
        elif category not in names:
            found = Unusable(f"elements of unknown class {f'category {category}'!r}", name)
        elif box is None:
            found = Unusable(_odd_box(each.get("bbox")), name)
        elif (image, category, *box) in seen:
            found = Unusable("annotations that are there twice", name, faulty=False)
        else:
            seen.add((image, category, *box))
            width, height = sizes[image]
            measured.append([*box, width, height, _area(each)])
            x, y, w, h = box
            found = names[category], (x / width, y / height, (x + w) / width, (y + h) / height)
        pages[image].elements.append(found)
    _check_unit(np.array(measured, float).reshape(-1, 7), path)


def _odd_box(box: Any) -> str:
    """Return why a ``bbox`` is not four finite numbers."""
    if not box:
        return "annotations without a box"
    if not isinstance(box, list):
        return "annotations with a box that is not a list"
    if len(box) == 5:
        return "annotations with a rotated box (five numbers)"
    return "annotations with a box that is not four numbers" if len(box) != 4 else "annotations with a box not finite"


def _area(annotation: dict[str, Any]) -> float:
    """Return the annotation's own ``area``, 0 if it has none."""
    return (numbers([annotation.get("area")], 1) or [0.0])[0]


def _check_unit(found: NDArray[np.float64], path: Path) -> None:
    """Raise GraftError if the boxes are corners or fractions.

    They would be read as other, smaller boxes.

    Args:
        found: (n, 7) the four numbers, the page's width and height, and the file's own area (0 for none).
        path: Path of the file.
    """
    if not len(found):
        return
    x, y, a, b, width, height, area = found.T
    if found[:, :4].max() <= SLACK and min(width.min(), height.min()) > 10 and (found[:, :4] % 1).any():
        raise GraftError(f"the boxes of {path} lie in [0, 1], but COCO's are in pixels: multiply by the page's size")
    by_size, by_corner = area > 0, area > 0
    if by_size.mean() >= 0.5:
        by_size, by_corner = (np.isclose(area, each, rtol=0.01)[area > 0] for each in (a * b, (a - x) * (b - y)))
        if by_size.mean() >= ENOUGH:
            return
    as_sizes = (a > 0) & (b > 0) & (x + a <= width * SLACK) & (y + b <= height * SLACK)
    as_corners = (a > x) & (b > y) & (a <= width * SLACK) & (b <= height * SLACK)
    better = as_corners.mean() > as_sizes.mean() + 1 - ENOUGH
    if as_corners.mean() >= ENOUGH and (better or by_corner.mean() >= ENOUGH):
        raise GraftError(
            f"the boxes of {path} are corners (left, top, right, bottom), but COCO's are left, top, width, height: "
            "subtract left and top from the last two"
        )


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)
