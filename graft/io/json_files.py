"""JSON files, plain or with a format number and a checksum."""

import json
import math
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io import text
from graft.io.atomic import write_text
from graft.io.format import with_checksum, without_checksum


def parse_json(content: "str | bytes") -> Any:
    """Return the value of a JSON text.

    ``NaN`` is a number, and strings may hold control characters.

    Raises:
        ValueError: The text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(content, strict=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def nulls_for_not_finite(value: Any) -> Any:
    """Return a value with None in place of each NaN and infinity in it, which JSON lacks."""
    if isinstance(value, dict):
        return {key: nulls_for_not_finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [nulls_for_not_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: "str | Path", value: Any) -> None:
    """Write JSON atomically; a number that is not finite becomes null."""
    _write(path, nulls_for_not_finite(value))


def _write(path: "str | Path", value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: "str | Path", remedy: str = "") -> Any:
    """Return the content of a JSON file.

    Args:
        path: Path of the file.
        remedy: Advice for a damaged file that graft wrote, for the message; empty for a file of another program.

    Raises:
        GraftError: The file is missing, is not UTF-8, or is not JSON.
    """
    try:
        return parse_json(text.read_utf8(path))
    except (OSError, ValueError) as error:
        problem = f"is missing or damaged ({error}): {remedy}" if remedy else f"is not a JSON file: {error}"
        raise GraftError(f"{path} {problem}") from None


def write_checked_json(path: "str | Path", content: "dict[str, Any]") -> None:
    """Write a JSON object atomically, with its format and checksum.

    Raises:
        ValueError: A number is not finite, so that it could not be read back.
    """
    _write(path, with_checksum(content, {}))


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
