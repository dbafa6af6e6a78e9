"""Tensors and arrays of the public preprocessings: ``.pt`` (read with ``weights_only=True``) and ``.npz``.

Known are the collated graphs of LayoutGAN++ and LayoutDM (``x`` (V, 4) centre x, centre y, width, height; ``y`` (V,);
slices), the list of records of LayoutFormer++ (``labels`` counted from 1, ``bboxes`` left, top, width, height), and
padded arrays (``boxes`` or ``bbox`` (M, N, 4) centre x, centre y, width, height, ``labels`` or ``type`` (M, N), with
``mask`` (M, N) or ``length`` (M,)). Coordinates are fractions of the page.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from domains.layouts.layout import cornered
from domains.layouts.sources.collection import Element
from graft.errors import GraftError


def read(path: Path) -> "Iterator[list[Element]]":
    """The layouts of a file.

    Raises:
        GraftError: It cannot be read safely, or holds something else.
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
    except Exception as error:  # zip, pickle and value errors of many kinds
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise GraftError(
            f"{path} cannot be read without running code that it may hold ({text[0][:200]}): save plain tensors, "
            "or convert it to .npz"
        ) from None


def _records(content: Any) -> "Iterator[list[Element]]":
    if isinstance(content, list):
        for record in content:
            boxes = _array(record["bboxes"]).astype(float)
            corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], -1)
            yield _elements(_array(record["labels"]) - 1, corners)
        return
    if isinstance(content, tuple):
        data, slices = content[0], content[1]
        boxes, labels, ends = (_array(part) for part in (data["x"], data["y"], slices["x"]))
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            yield _elements(labels[start:end], cornered(boxes[start:end].astype(float)))
        return
    if not isinstance(content, Mapping):
        raise TypeError(f"a {type(content).__name__}")
    boxes = _array(content["boxes"] if "boxes" in content else content["bbox"]).astype(float)
    labels = _array(content["labels"] if "labels" in content else content["type"])
    there = _array(content["mask"]).astype(bool).reshape(labels.shape) if "mask" in content else None
    if there is None:
        there = np.arange(labels.shape[1]) < _array(content["length"]).reshape(-1, 1)
    for box, label, mask in zip(boxes, labels, there, strict=True):
        yield _elements(label[mask], cornered(box[mask]))


def _elements(labels: NDArray[Any], boxes: NDArray[Any]) -> "list[Element]":
    return [(int(label), box) for label, box in zip(labels.reshape(-1), boxes, strict=True)]


def _array(value: Any) -> NDArray[Any]:
    return np.asarray(value.numpy() if isinstance(value, torch.Tensor) else value)
