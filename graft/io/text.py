"""Text files of other programs: UTF-8 with or without a byte-order mark, and lines that end at a line feed.

`str.splitlines` also splits at U+2028, U+2029, U+0085, vertical tabs and form feeds, which JSON strings, prompts and
names may hold.
"""

import json
from pathlib import Path
from typing import Any

from graft.errors import GraftError


def read(path: "str | Path") -> str:
    """Return the text of a file without its byte-order mark.

    Every end of a line becomes a line feed.

    Raises:
        OSError: The file cannot be read.
        UnicodeDecodeError: The file is not UTF-8.
    """
    return Path(path).read_text(encoding="utf-8-sig")


def lines(text: str) -> list[str]:
    """Return the lines of a text, which a line feed alone ends."""
    found = text.split("\n")
    return found[:-1] if found[-1] == "" else found


def parse_json(text: str, where: str) -> Any:
    """Return the value of a JSON text.

    ``NaN`` is a number, and strings may hold control characters.

    Args:
        text: The JSON text.
        where: Name of the text in the message, such as ``line 3 of prompts.jsonl``.

    Raises:
        GraftError: The text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        raise GraftError(f"{where} is not JSON: {error}") from None


def read_json(path: "str | Path") -> Any:
    """Return what a JSON file holds.

    Raises:
        GraftError: The file cannot be read, is not UTF-8, or is not JSON.
    """
    try:
        return json.loads(read(path), strict=False)
    except (OSError, ValueError, RecursionError) as error:
        raise GraftError(f"{path} is not a JSON file: {error}") from None
