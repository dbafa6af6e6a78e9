"""Tensors and arrays of public preprocessings: ``.pt`` and ``.npz`` files.

``.pt`` files are read with ``weights_only=True``.

Known are the collated graphs of LayoutGAN++ and LayoutDM (``x`` (V, 4) centre x, centre y, width, height; ``y`` (V,);
slices), the list of records of LayoutFormer++ (``labels`` counted from 1, ``bboxes`` left, top, width, height), and
padded arrays (``boxes`` or ``bbox`` (M, N, 4) centre x, centre y, width, height, ``labels`` or ``type`` (M, N), with
``mask`` (M, N) or ``length`` (M,)). Coordinates are fractions of the page.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from domains.layouts.layout import cornered
from domains.layouts.readers.record import Element, LayoutRecord, Unusable
from graft.errors import GraftError


def read_arrays(path: Path) -> "Iterator[LayoutRecord | Unusable]":
    """Yield the layouts of a file; a record of another kind is invalid.

    Raises:
        GraftError: The file cannot be read without running code, or holds no layouts.
    """
    content = _content(path)
    try:
        found = list(_records(content))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise GraftError(f"{path} holds no layouts in a known form ({type(error).__name__}: {error})") from None
    yield from found


def _content(path: Path) -> Any:
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return dict(file)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and value errors of many types
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise GraftError(
            f"{path} cannot be read without running code that it may hold ({text[0][:200]}): save plain tensors, "
            "or convert it to .npz"
        ) from None


def _records(content: Any) -> "Iterator[LayoutRecord | Unusable]":
    for number, layout in enumerate(_layouts(content), 1):
        try:
            labels, boxes = layout()
            found: list[Element | Unusable] = [
                (int(label), box) for label, box in zip(labels.reshape(-1), boxes, strict=True)
            ]
            yield LayoutRecord(f"record {number}", found)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            why = f"records that are no layout: {type(error).__name__}: {error}"
            yield Unusable(why, f"record {number}", layout=True)


Arrays = tuple[NDArray[Any], NDArray[Any]]
"""Labels (n,) and corners (n, 4) of a layout."""


def _layouts(content: Any) -> "Iterator[Callable[[], Arrays]]":
    """Yield for each layout a function that makes its arrays; it raises for an invalid layout."""
    if isinstance(content, list):
        for record in content:
            yield functools.partial(_of_record, record)
        return
    if isinstance(content, tuple):
        data, slices = content[0], content[1]
        x, y, ends = (_array(part) for part in (data["x"], data["y"], slices["x"]))
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            yield functools.partial(_of_centres, x[start:end], y[start:end])
        return
    if not isinstance(content, Mapping):
        raise TypeError(f"a {type(content).__name__}")
    centres = _array(content["boxes"] if "boxes" in content else content["bbox"]).astype(float)
    classes = _array(content["labels"] if "labels" in content else content["type"])
    there = _array(content["mask"]).astype(bool).reshape(classes.shape) if "mask" in content else None
    if there is None:
        there = np.arange(classes.shape[1]) < _array(content["length"]).reshape(-1, 1)
    for box, label, mask in zip(centres, classes, there, strict=True):
        yield functools.partial(_of_centres, box[mask], label[mask])


def _of_record(record: Any) -> Arrays:
    boxes = _boxes(record["bboxes"])
    return _array(record["labels"]) - 1, np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], -1)


def _of_centres(boxes: NDArray[Any], labels: NDArray[Any]) -> Arrays:
    return labels, cornered(_boxes(boxes))


def _boxes(value: Any) -> NDArray[Any]:
    """Return (n, 4) numbers, since NumPy would broadcast boxes of another width."""
    found = _array(value).astype(float)
    if found.ndim != 2 or found.shape[1] != 4:
        raise ValueError(f"boxes of shape {found.shape}, where (n, 4) is needed")
    return found


def _array(value: Any) -> NDArray[Any]:
    return np.asarray(value.numpy() if isinstance(value, torch.Tensor) else value)
