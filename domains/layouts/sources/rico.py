"""RICO's semantic annotations: one JSON file for each screen, a tree of components with bounds in pixels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from domains.layouts.sources.collection import Element
from graft.errors import GraftError


def fits(content: Any) -> bool:
    """Whether this is the schema of a parsed JSON file."""
    return isinstance(content, dict) and {"bounds", "children"} <= set(content)


def records(content: Any, path: Path) -> "Iterator[list[Element]]":
    """The one screen of a file: every labelled component of the tree, containers included.

    Raises:
        GraftError: A component lacks what it must have.
    """
    try:
        left, top, right, bottom = map(float, content["bounds"])
        width, height = right - left, bottom - top
        found: list[Element] = []
        waiting = list(content["children"])
        while waiting:
            node = waiting.pop()
            waiting += node.get("children", ())
            if "componentLabel" in node:
                x0, y0, x1, y1 = map(float, node["bounds"])
                box = ((x0 - left) / width, (y0 - top) / height, (x1 - left) / width, (y1 - top) / height)
                found.append((str(node["componentLabel"]), box))
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError) as error:
        raise GraftError(f"{path} is no semantic annotation of RICO ({type(error).__name__}: {error})") from None
    yield found


def read(folder: Path) -> "Iterator[list[Element]]":
    """The screens of a folder of ``.json`` files.

    Raises:
        GraftError: There are none, or one is of another kind.
    """
    from domains.layouts.sources.read import load

    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise GraftError(f"{folder} has no .json files: RICO's semantic annotations are one for each screen")
    for path in paths:
        content = load(path)
        if not fits(content):
            raise GraftError(f"{path} is JSON of another schema: RICO's semantic annotations have bounds and children")
        yield from records(content, path)
