"""RICO's semantic annotations: one JSON file for each screen.

A file holds a tree of components with bounds in pixels.

A raw view hierarchy of RICO, which has the tree at ``activity.root``, is read too if its components have labels.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from domains.layouts.readers.record import LayoutRecord, Unusable, numbers
from graft.errors import GraftError
from graft.io.json_files import read_json


def fits(content: Any) -> bool:
    """Return True if parsed JSON has the schema of a semantic annotation."""
    root = _root(content)
    return isinstance(root, dict) and {"bounds", "children"} <= set(root)


def records(content: Any, path: Path) -> "Iterator[LayoutRecord | Unusable]":
    """Yield the one screen of a file: every labelled component of the tree, containers included.

    Raises:
        GraftError: The screen has no bounds, or no component has a label.
    """
    root = _root(content)
    bounds = numbers(root["bounds"], 4)
    if bounds is None or bounds[0] >= bounds[2] or bounds[1] >= bounds[3]:
        raise GraftError(f"{path} is no semantic annotation of RICO: the screen's bounds are {root['bounds']!r}")
    left, top, right, bottom = bounds
    width, height = right - left, bottom - top
    found, unlabelled = LayoutRecord(path.name), 0
    waiting = _children(root)
    while waiting:
        node = waiting.pop()
        waiting += _children(node)
        if "componentLabel" not in node:
            unlabelled += 1
            continue
        label, box = str(node["componentLabel"]), numbers(node.get("bounds"), 4)
        if box is None:
            found.elements.append(Unusable("components without bounds", f"a component {label!r} of {path.name}"))
            continue
        x0, y0, x1, y1 = box
        found.elements.append(
            (label, ((x0 - left) / width, (y0 - top) / height, (x1 - left) / width, (y1 - top) / height))
        )
    if unlabelled and not found.elements:
        raise GraftError(
            f"{path} is no semantic annotation of RICO: no component has a componentLabel, as in raw view hierarchies"
        )
    yield found


def read_rico(folder: Path) -> "Iterator[LayoutRecord | Unusable]":
    """Yield the screens of a folder of ``.json`` files; a file of another kind is invalid.

    Raises:
        GraftError: The folder has no such files.
    """
    paths = sorted(
        path for path in folder.iterdir() if path.suffix.lower() == ".json" and not path.name.startswith(".")
    )
    if not paths:
        raise GraftError(f"{folder} has no .json files: RICO's semantic annotations are one for each screen")
    for path in paths:
        try:
            content = read_json(path)
            if not fits(content):
                raise GraftError("it is JSON of another schema")
            found = list(records(content, path))
        except GraftError as error:
            why = str(error).removeprefix(f"{path} is ")
            yield Unusable(f"files that are no semantic annotation: {why}", path.name, layout=True)
            continue
        yield from found


def _root(content: Any) -> Any:
    """Return the screen: the file's content, or the root of a raw view hierarchy."""
    activity = content.get("activity") if isinstance(content, dict) else None
    return activity.get("root") if isinstance(activity, dict) else content


def _children(node: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the components below one, without RICO's ``null`` entries."""
    children = node.get("children")
    return [child for child in children if isinstance(child, dict)] if isinstance(children, list) else []
