"""The bytes and the text of a file, compressed or not."""

import gzip
from pathlib import Path
from typing import IO

from graft.errors import GraftError


def suffix(path: Path) -> str:
    """Return the suffix of a file that names its kind, in lower case and without ``.gz``."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def open_binary(path: Path) -> "IO[bytes]":
    """Open a file, which may be compressed by gzip."""
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def decode_file(path: Path) -> str:
    """Return the text of a file in UTF-8, UTF-16 with a byte-order mark, or Latin-1.

    Raises:
        GraftError: The file is not text.
    """
    with open_binary(path) as file:
        data = file.read()
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            found = data.decode("utf-16")
        else:
            found = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        found = data.decode("latin-1")  # spreadsheets write it; every byte is a character
    if "\0" in found:
        raise GraftError(f"{path} is no text file")
    return found.replace("\r\n", "\n").replace("\r", "\n")
