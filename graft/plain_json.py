"""JSON of files that others may have written."""

import json
from typing import Any


def parse(text: "str | bytes") -> Any:
    """Return what a JSON text holds.

    Raises:
        ValueError: It is no JSON, or is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
