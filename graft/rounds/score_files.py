"""The files of scores in a round: JSON with null for a draw without a score."""

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io.json_files import read_checked_json


def to_nulls(values: Sequence[float]) -> "list[float | None]":
    """Return scores with None in place of NaN, which JSON lacks."""
    return [None if math.isnan(value) else value for value in values]


def from_nulls(values: "Sequence[float | None]") -> list[float]:
    """Return scores with NaN in place of None."""
    return [math.nan if value is None else float(value) for value in values]


def read_scores_file(path: Path) -> dict[str, Any]:
    """Return the content of a file of scores; an unchanged file is parsed once."""
    status = path.stat()
    return _parsed(path, status.st_mtime_ns, status.st_size, status.st_ino)


@functools.lru_cache(maxsize=1024)
def _parsed(path: Path, *version: int) -> dict[str, Any]:
    remedy = "remove it, and the chunk is scored again"
    content = {"reward": None, "calls": {}, "again": [], **read_checked_json(path, remedy)}
    try:
        if not isinstance(content["values"], list) or len(content["keys"]) != len(content["values"]):
            raise ValueError("not a score and a key for each draw")
        [float(value) for value in content["values"] if value is not None]
        places = [*map(int, content["failures"].keys()), *map(int, content["again"])]
        if not all(isinstance(number, int) for number in (content["reward_calls"], *content["calls"].values())):
            raise ValueError("no number of calls")
        if any(not 0 <= place < len(content["values"]) for place in places):
            raise ValueError("a failure of no draw")
        return content
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise GraftError(f"{path} is damaged ({error}): {remedy}") from None
