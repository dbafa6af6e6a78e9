"""The format number of the files that graft writes."""

from pathlib import Path
from typing import Any

from graft.errors import GraftError

FORMAT = 2
"""Format number of the files that graft writes. From format 2 on, a file holds a checksum."""


def check_format(path: "str | Path", about: dict[str, Any]) -> None:
    """Raise GraftError if a file has the format of another version of graft."""
    found = about.get("format", 1)
    if not isinstance(found, int) or not 1 <= found <= FORMAT:
        raise GraftError(f"{path} was written by another version of graft: its format is {found!r}, not {FORMAT}")
