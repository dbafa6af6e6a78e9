"""Token streams of public preprocessings: ``text 10 47 61 64 | title 10 17 103 25``.

A line is a layout. A coordinate (left, top, right, bottom) is one of 128 places, 0 to 127.
"""

from collections.abc import Iterator
from pathlib import Path

from domains.layouts.layout import BINS
from domains.layouts.readers.record import LayoutRecord, Unusable
from graft.errors import GraftError
from graft.io import text


def read_tokens(path: Path) -> "Iterator[LayoutRecord | Unusable]":
    """Yield the layouts of a file; a line of another kind is invalid.

    Raises:
        GraftError: The file is not text.
    """
    try:
        lines = text.split_lines(text.read_utf8(path))
    except (OSError, UnicodeDecodeError) as error:
        raise GraftError(f"{path} is not a text file ({error})") from None
    for number, line in enumerate(lines, 1):
        found = LayoutRecord(f"line {number}")
        try:
            for element in line.split("|") if line.strip() else ():
                *name, left, top, right, bottom = element.split() if len(element.split()) >= 5 else [""] * 4
                found.elements.append((" ".join(name), [int(place) / BINS for place in (left, top, right, bottom)]))
        except ValueError:
            why = (
                f"lines that are no layout: {element.strip()[:80]!r} is no element, which is a class and four places, "
                "'text 10 47 61 64', elements separated by |"
            )
            yield Unusable(why, found.name, layout=True)
            continue
        yield found
