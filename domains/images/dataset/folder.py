"""A folder of pictures; its subfolders are the classes, if there are any."""

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from domains.images.dataset import walk
from domains.images.dataset.decode import Decoded, decode, in_bytes
from domains.images.dataset.pictures import Pictures
from graft.errors import GraftError
from graft.io.invalid_records import check_invalid

SUFFIXES = walk.SUFFIXES


def read_folder(
    path: Path, size: "int | None", channels: "Literal[1, 3] | None", max_invalid_fraction: float
) -> Pictures:
    """Return the pictures below a folder, in the order of their names.

    Args:
        path: Folder. Hidden files and folders, and files of other suffixes, are skipped. Subfolders with names such as
            train, val or test are no classes: the one for training is read.
        size: Side in pixels: the shorter side is scaled to it and the middle cut out; None for pictures of one size.
        channels: 1 for grey, 3 for RGB; None for pictures that are all grey or all RGB.
        max_invalid_fraction: Share of broken files above which the folder is refused.

    Raises:
        GraftError: There are no pictures, too many are broken, or they differ in size or channels.
    """
    found = walk.find_pictures(path)
    root, part = walk.part_of(path, found.files)
    files = [file for file in found.files if file.is_relative_to(root)]
    if not files and not found.left_out:
        there = f"; it has {_counted(found.others)}" if found.others else ""
        raise GraftError(f"there is no picture in {path} ({', '.join(sorted(SUFFIXES))}){there}")
    own = list(walk.classes(root, files))
    names = sorted({each for each in own if each is not None})
    labelled = bool(names) and None not in own
    pictures, labels, left_out = list[Decoded](), list[int](), list(found.left_out)
    read: list[Path] = []
    for file, name in zip(files, own, strict=True):
        try:
            pictures.append(decode(file, size, channels))
        except ValueError as error:
            left_out.append((walk.printable(file.relative_to(path)), str(error)))
            continue
        read.append(file)
        labels.append(names.index(name) if labelled and name is not None else 0)
    kept: list[tuple[NDArray[np.uint8], int]] = []
    for file, array, label in zip(read, in_bytes(pictures), labels, strict=True):
        if isinstance(array, str):
            left_out.append((walk.printable(file.relative_to(path)), array))
        else:
            kept.append((array, label))
    left_out.sort()
    check_invalid(len(kept), left_out, max_invalid_fraction, path, "data.max_invalid_fraction")
    arrays = [array for array, _ in kept]
    _alike(arrays, path)
    notes = [part] if part else []
    if names and not labelled:
        notes.append(f"{own.count(None)} of them lie next to the subfolders, which are therefore no classes")
    if frames := sum(each.frames for each in pictures):
        notes.append(f"{frames} of them have several frames, of which the first one is read")
    if found.others:
        notes.append(f"not looked at: {_counted(found.others)}")
    return Pictures(
        np.stack(arrays),
        np.array([label for _, label in kept], np.int64) if labelled else None,
        256,
        left_out,
        [walk.printable(name) for name in names] if labelled else [],
        notes,
    )


def _counted(others: "Counter[str]") -> str:
    return ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(5))


def _alike(arrays: list[NDArray[np.uint8]], path: Path) -> None:
    sizes = Counter(array.shape[:2] for array in arrays)
    if len(sizes) > 1:
        common = ", ".join(f"{count} of {w}x{h}" for (h, w), count in sizes.most_common(3))
        raise GraftError(
            f"the pictures in {path} have {len(sizes)} sizes ({common}{', ...' if len(sizes) > 3 else ''}): "
            "give data.size to scale and crop them to one"
        )
    kinds = Counter(array.shape[2] for array in arrays)
    if len(kinds) > 1:
        raise GraftError(
            f"{kinds[1]} pictures in {path} are grey and {kinds[3]} are in colour: give data.channels, 1 or 3"
        )
