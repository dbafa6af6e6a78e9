"""Text files of other programs: UTF-8 with or without a byte-order mark, and lines that end at a line feed.

`str.splitlines` also splits at U+2028, U+2029, U+0085, vertical tabs and form feeds, which JSON strings, prompts and
names may hold.
"""

from pathlib import Path


def read_utf8(path: "str | Path") -> str:
    """Return the text of a file without its byte-order mark.

    Every end of a line becomes a line feed.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: The file is not UTF-8.
    """
    return Path(path).read_text(encoding="utf-8-sig")


def split_lines(text: str) -> list[str]:
    """Return the lines of a text, which a line feed alone ends."""
    found = text.split("\n")
    return found[:-1] if found[-1] == "" else found
