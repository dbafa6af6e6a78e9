"""Picture files below a folder, by class or by part of a data set."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graft.errors import GraftError

SUFFIXES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2"),
}
OTHERS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN"}  # folders that operating systems create and do not hide
PART = re.compile(
    r"(train|val|valid|dev|eval|test)(ing|idation|uation)?([-_ ]?(set|data|split|images))?[-_ ]?\d*", re.I
)


@dataclass
class PictureFiles:
    """Files below a folder.

    Attributes:
        files: Pictures, in the order of their names.
        left_out: (name, reason) of broken links, folders that cannot be opened, and entries that are not files.
        others: Number of files of each other suffix.
    """

    files: list[Path] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    others: "Counter[str]" = field(default_factory=Counter)


def find_pictures(folder: Path) -> PictureFiles:
    """Return the pictures below a folder.

    Hidden files and folders are skipped, links are followed.
    """
    found = PictureFiles()
    _look(folder, folder, [], set(), found)
    return found


def printable(path: "Path | str") -> str:
    """Return a name that can be printed and written, since names on Linux may be invalid text."""
    return str(path).encode(errors="replace").decode()


def _look(
    root: Path, folder: Path, above: list[tuple[int, int]], seen: set[tuple[int, int]], found: PictureFiles
) -> None:
    """Add the entries of ``folder``.

    Args:
        root: Folder where the search began.
        folder: Folder below it.
        above: Parent folders, to which a link may lead back.
        seen: Folders of the same class that were searched.
        found: Result, which is extended.
    """
    try:
        status = folder.stat()
        entries = sorted(folder.iterdir())
    except OSError as error:
        found.left_out.append((printable(folder.relative_to(root)), f"cannot be opened: {error.strerror}"))
        return
    here = (status.st_dev, status.st_ino)
    if here in above or here in seen:
        return
    seen.add(here)
    of_classes = not above or (len(above) == 1 and PART.fullmatch(folder.name) is not None)
    for each in entries:
        if each.name.startswith(".") or each.name in OTHERS:
            continue
        if each.is_dir():
            _look(root, each, [*above, here], set() if of_classes else seen, found)
        elif each.suffix.lower() not in SUFFIXES:
            found.others[printable(each.suffix.lower()) or "without a suffix"] += 1
        elif each.is_file():
            found.files.append(each)
        else:
            why = "the link leads nowhere" if each.is_symlink() else "it is not a file"
            found.left_out.append((printable(each.relative_to(root)), why))


def part_of(root: Path, files: Sequence[Path]) -> "tuple[Path, str]":
    """Return the folder with the classes, and a message if it is a part of a data set.

    The classes are its subfolders.

    Args:
        root: Folder that the user named.
        files: Pictures below it.

    Raises:
        GraftError: The folders are parts of a data set, and none or several of them are for training.
    """
    if any(file.parent == root for file in files):
        return root, ""
    tops = sorted({file.relative_to(root).parts[0] for file in files})
    if not tops or not all(PART.fullmatch(top) for top in tops):
        return root, ""
    chosen = [top for top in tops if top.lower().startswith("train")] if len(tops) > 1 else tops
    if len(chosen) != 1:
        raise GraftError(
            f"the folders of {root} are {', '.join(map(printable, tops))}, which are parts of a data set and no "
            f"classes: give one of them, such as {root / tops[0]}"
        )
    others = [top for top in tops if top not in chosen]
    left = f", and {', '.join(others)} not" if others else ""
    return root / chosen[0], f"its folders are parts of a data set and no classes: {chosen[0]} is read{left}"


def classes(root: Path, files: Sequence[Path]) -> "Iterator[str | None]":
    """Yield the class of each picture: the subfolder of ``root`` that holds it, or None."""
    for file in files:
        parts = file.relative_to(root).parts
        yield parts[0] if len(parts) > 1 else None
