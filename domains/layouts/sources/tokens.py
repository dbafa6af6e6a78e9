"""The token streams of the public preprocessings: ``text 10 47 61 64 | title 10 17 103 25``, one layout a line.

A coordinate (left, top, right, bottom) is one of 128 places, 0 to 127.
"""

from collections.abc import Iterator
from pathlib import Path

from domains.layouts.layout import BINS
from domains.layouts.sources.collection import Element
from graft.errors import GraftError


def read(path: Path) -> "Iterator[list[Element]]":
    """The layouts of a file.

    Raises:
        GraftError: A line is of another kind.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GraftError(f"{path} is no text file ({error})") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            yield []
            continue
        found: list[Element] = []
        for element in line.split("|"):
            *name, left, top, right, bottom = element.split() if len(element.split()) >= 5 else [""] * 4
            try:
                found.append((" ".join(name), [int(place) / BINS for place in (left, top, right, bottom)]))
            except ValueError:
                raise GraftError(
                    f"{path}, line {number}: {element.strip()!r} is no element, which is a class and four places, "
                    "'text 10 47 61 64', elements separated by |"
                ) from None
        yield found
