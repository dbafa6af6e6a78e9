"""COCO object annotations, as PubLayNet comes: pages are images, elements annotations, classes categories."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from domains.layouts.sources.collection import Element
from graft.errors import GraftError


def fits(content: Any) -> bool:
    """Whether this is the schema of a parsed JSON file."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= set(content)


def records(content: Any, path: Path) -> "Iterator[list[Element]]":
    """The elements of each image; ``bbox`` is left, top, width, height in pixels.

    Raises:
        GraftError: An entry lacks what it must have.
    """
    try:
        names = {each["id"]: str(each["name"]) for each in content["categories"]}
        sizes = {each["id"]: (float(each["width"]), float(each["height"])) for each in content["images"]}
        found: dict[Any, list[Element]] = {image: [] for image in sizes}
        for each in content["annotations"]:
            if each.get("iscrowd") or each["image_id"] not in sizes:
                continue
            (width, height), (x, y, w, h) = sizes[each["image_id"]], map(float, each["bbox"])
            box = (x / width, y / height, (x + w) / width, (y + h) / height)
            found[each["image_id"]].append((names.get(each["category_id"], f"category {each['category_id']}"), box))
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise GraftError(f"{path} is no COCO file of boxes ({type(error).__name__}: {error})") from None
    yield from found.values()
