"""Tensor files larger than the memory, written in place."""

import itertools
import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from graft.errors import GraftError
from graft.io.atomic import atomic_write
from graft.io.format import FORMAT, content_checksum


@contextmanager
def mapped_writer(
    path: "str | Path", rows: int, about: "dict[str, Any] | None" = None
) -> "Iterator[Callable[[dict[str, Tensor]], dict[str, Tensor]]]":
    """Write a safetensors file in place through memory-mapped tensors, larger than the memory.

    The block gets a function. Its argument is a first part of the tensors by name, for their types and their shapes
    without the first dimension. Its result is the memory-mapped tensors with ``rows`` rows, to be filled. The file gets
    its final name when the block ends.

    Args:
        path: Path of the file.
        rows: Number of rows of each tensor.
        about: Metadata, written as JSON.

    Raises:
        GraftError: The block did not call the function, or the file cannot be written.
    """
    note = {**(about or {}), "format": FORMAT}
    made: dict[str, Tensor] = {}
    place: list[int] = []
    with atomic_write(path) as temporary:

        def mapped(like: dict[str, Tensor]) -> dict[str, Tensor]:
            shapes = {name: (rows, *tensor.shape[1:]) for name, tensor in like.items()}
            sizes = {name: math.prod(shapes[name]) * tensor.element_size() for name, tensor in like.items()}
            # the widest types come first, so that all are aligned
            order = sorted(like, key=lambda name: (-like[name].element_size(), name))
            ends = dict(zip(order, itertools.accumulate(sizes[name] for name in order), strict=True))
            header: dict[str, Any] = {"__metadata__": {"graft": json.dumps({**note, "sha256": PLACE})}}
            for name in order:
                span = [ends[name] - sizes[name], ends[name]]
                header[name] = {"dtype": _TYPES[like[name].dtype], "shape": shapes[name], "data_offsets": span}
            text = json.dumps(header).encode()
            text += b" " * (-len(text) % 8)
            start = 8 + len(text)
            with open(temporary, "wb") as file:
                file.write(len(text).to_bytes(8, "little") + text)
                _reserve(file.fileno(), start + max(ends.values(), default=0))
            whole = torch.from_file(
                str(temporary), shared=True, size=start + max(ends.values(), default=0), dtype=torch.uint8
            )
            place.append(text.index(PLACE.encode()) + 8)
            made.update(
                {
                    name: whole[start + ends[name] - sizes[name] : start + ends[name]]
                    .view(like[name].dtype)
                    .reshape(shapes[name])
                    for name in order
                }
            )
            return made

        yield mapped
        if not place:
            raise GraftError(f"there is nothing to write to {path}")
        with open(temporary, "r+b") as file:  # the mapped tensors and the file share the same pages
            file.seek(place[0])
            file.write(content_checksum(note, made).encode())


PLACE = "0" * 64  # placeholder of the checksum


def _reserve(file: int, size: int) -> None:
    """Reserve disk space for a file: a full disk under a mapped file would kill the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.truncate(file, size)


_TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Names of tensor types in safetensors files."""
