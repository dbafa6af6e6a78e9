"""A partial layout: a JSON file of the elements of a page and their fixed parts.

.. code-block:: json

    {"page": [612, 792],
     "elements": [{"class": "figure", "box": [36, 36, 120, 60]}, {"class": "title"},
                  {"class": "table", "box": [null, null, 300, 120]}, {}]}

A box is left, top, width, height in the unit of ``page`` (fractions without ``page``). ``null`` and missing entries are
free. ``{}`` is an element without a fixed part.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from domains.layouts.conditioning import CENTRE, SPREAD, unconditional
from graft.core.state import Condition
from graft.errors import GraftError
from graft.io.json_files import read_json
from graft.io.paths import find_file


@dataclass
class PartialLayout:
    """The fixed part of the n elements of one page.

    Attributes:
        box: (n, 4) centre x, centre y, width, height, fractions of the page; NaN for the free part.
        label: (n,) classes; -1 for free ones.
        page: Width and height.
    """

    box: Tensor
    label: Tensor
    page: "tuple[float, float] | None" = None

    def condition(self, count: int, elements: int, classes: int) -> Condition:
        """Return the condition of ``count`` draws of at most ``elements`` elements."""
        n = len(self.label)
        mask = torch.zeros(1, elements)
        mask[:, :n] = 1
        condition = unconditional(mask, classes)
        fixed = ~self.box.isnan()
        values = (self.box - torch.tensor(CENTRE)) / torch.tensor(SPREAD)
        condition["box"][0, :n] = torch.where(fixed, values, 0.0)
        condition["free_box"][0, :n] = (~fixed).float()
        known = self.label >= 0
        condition["free_label"][0, :n] = (~known).float()
        onehot = torch.nn.functional.one_hot(self.label.clamp(min=0), classes).float()
        condition["label"][0, :n] = onehot * known[:, None]
        return {name: field.repeat(count, *[1] * (field.ndim - 1)) for name, field in condition.items()}


def read_partial_layout(path: "str | Path", names: tuple[str, ...], elements: int) -> PartialLayout:
    """Return the partial layout of a file.

    Raises:
        GraftError: The file holds no partial layout, or has elements or classes that the model does not know.
    """
    found = find_file(path)
    content = read_json(found)
    if not isinstance(content, dict) or not isinstance(content.get("elements"), list) or not content["elements"]:
        raise GraftError(f'{path} is no brief, which is {{"elements": [{{"class": "title", "box": [l, t, w, h]}}, …]}}')
    listed = content["elements"]
    if len(listed) > elements:
        raise GraftError(f"{path} has {len(listed)} elements, and the model knows layouts of at most {elements}")
    page = content.get("page")
    if page is not None and not (_numbers(page, 2) and min(page) > 0):
        raise GraftError(f"{path}: page is {page!r}; it must be [width, height]")
    box, label = torch.full((len(listed), 4), math.nan), torch.full((len(listed),), -1)
    lower = {name.lower(): i for i, name in enumerate(names)}
    for i, element in enumerate(listed):
        where = f"{path}, element {i + 1}"
        if not isinstance(element, dict) or (unknown := sorted(set(element) - {"class", "box"})):
            raise GraftError(
                f"{where}: an element has a class and a box"
                + (f", no {unknown[0]!r}" if isinstance(element, dict) else "")
            )
        if (name := element.get("class")) is not None:
            if str(name).lower() not in lower:
                raise GraftError(f"{where}: unknown class {name!r}; there are {', '.join(names)}")
            label[i] = lower[str(name).lower()]
        if (given := element.get("box")) is not None:
            box[i] = _box(given, page or (1.0, 1.0), where)
    if not bool(box.isnan().any()) and not bool((label < 0).any()):
        raise GraftError(f"{path} leaves nothing to generate: remove values that the model is to choose, or put null")
    return PartialLayout(box, label, (float(page[0]), float(page[1])) if page is not None else None)


def _box(given: Any, page: Any, where: str) -> Tensor:
    if not _numbers([0.0 if value is None else value for value in given] if isinstance(given, list) else None, 4):
        raise GraftError(f"{where}: box is {given!r}; it must be [left, top, width, height], with null for free values")
    out = torch.full((4,), math.nan)
    for axis, name in enumerate(("left and width", "top and height")):
        start, size = (None if v is None else v / page[axis] for v in (given[axis], given[axis + 2]))
        if size is None and start is not None:
            raise GraftError(f"{where}: a place needs a size: give {name}, only the second, or null for both")
        if size is not None:
            if not 0 < size <= 1 or (start is not None and not 0 <= start <= 1 - size + 1e-6):
                raise GraftError(
                    f"{where}: the box {given} has no area or is outside the page: give {name} on the page"
                )
            out[axis + 2] = size
            if start is not None:
                out[axis] = start + size / 2
    return out


def _numbers(values: Any, count: int) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == count
        and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in values)
    )
