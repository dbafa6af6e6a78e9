"""JSON files, plain or with a format number and a checksum."""

import json
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io.atomic import write_text
from graft.io.format import with_checksum, without_checksum


def parse_json(text: "str | bytes") -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: The text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def write_json(path: "str | Path", value: Any) -> None:
    """Write JSON atomically; raise ValueError for NaN and infinity, which JSON lacks."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: "str | Path", remedy: str) -> Any:
    """Return the content of a JSON file.

    Args:
        path: Path of the file.
        remedy: Advice for a damaged file, for the message.

    Raises:
        GraftError: The file is missing or is not JSON.
    """
    try:
        return parse_json(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise GraftError(f"{path} is missing or damaged ({error}): {remedy}") from None


def write_checked_json(path: "str | Path", content: "dict[str, Any]") -> None:
    """Write a JSON object atomically, with its format and checksum."""
    write_json(path, with_checksum(content, {}))


def read_checked_json(path: "str | Path", remedy: str) -> dict[str, Any]:
    """Return the content of a file that `write_checked_json` wrote.

    Args:
        path: Path of the file.
        remedy: Advice for a damaged file, for the message.

    Raises:
        GraftError: The file is missing, damaged, changed, or from another version of graft.
    """
    content = read_json(path, remedy)
    if not isinstance(content, dict):
        raise GraftError(f"{path} is damaged (it holds no names): {remedy}")
    return without_checksum(path, content, {}, remedy)
