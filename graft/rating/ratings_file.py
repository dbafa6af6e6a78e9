"""The file of ratings: a line of JSON for each rating, appended as it comes, so that a killed process loses none."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from graft.errors import GraftError, WriteError
from graft.io.json_files import parse_json
from graft.rating.scale import Scale

FORMAT = 1  # raise it if the lines change


class RatingsFile:
    """Ratings by draw, and the file that keeps them.

    The first line has the scale. Every other line has a draw and its rating, null for none. Nothing is ever removed
    from the file: the last line of a draw counts. A line that a kill cut off is skipped.

    Args:
        path: Path of the file; an existing one is continued.
        scale: Scale of the ratings.

    Attributes:
        values: Rating of each rated draw.

    Raises:
        GraftError: The file holds ratings on another scale, or something else.
        WriteError: The file cannot be written.
    """

    def __init__(self, path: "str | Path", scale: Scale) -> None:
        self.path, self.scale = Path(path), scale
        self.values: dict[str, int] = {}
        self._undo: list[tuple[str, int | None]] = []  # draw, and its rating before
        self._lock = threading.Lock()
        lines = self._lines()
        if lines:
            self._check(lines[0])
            for line in lines[1:]:
                self._read(line)
        else:
            self._append(self._head)

    @property
    def last(self) -> "str | None":
        """The draw whose rating `undo` takes back; None if there is none."""
        return self._undo[-1][0] if self._undo else None

    def rate(self, draw: str, value: "int | None") -> None:
        """Set the rating of a draw; None removes it.

        Raises:
            WriteError: The file cannot be written.
        """
        with self._lock:
            self._append({"draw": draw, "rating": value, "time": round(time.time(), 3)})
            self._undo.append((draw, self.values.get(draw)))
            self._set(draw, value)

    def undo(self) -> "str | None":
        """Take back the last rating that is not taken back yet, and return its draw; None if there is none.

        Raises:
            WriteError: The file cannot be written.
        """
        with self._lock:
            if not self._undo:
                return None
            draw, before = self._undo[-1]
            self._append({"draw": draw, "rating": before, "undo": True, "time": round(time.time(), 3)})
            self._undo.pop()
            self._set(draw, before)
            return draw

    @property
    def _head(self) -> dict[str, Any]:
        return {"graft": "ratings", "format": FORMAT, "scale": self.scale.name}

    def _set(self, draw: str, value: "int | None") -> None:
        if value is None:
            self.values.pop(draw, None)
        else:
            self.values[draw] = value

    def _lines(self) -> list[Any]:
        """Return the value of each line that is whole JSON."""
        try:
            text = self.path.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise GraftError(f"{self.path} cannot be read ({error.strerror}): choose another file") from None
        found = []
        for line in text.split("\n"):
            try:
                found.append(parse_json(line))
            except ValueError:  # an empty line, or one that was cut off
                continue
        if not found and not json.dumps(self._head).startswith(text.rstrip()):  # not even a head that was cut off
            raise self._foreign()
        return found

    def _check(self, head: Any) -> None:
        if not isinstance(head, dict) or head.get("graft") != "ratings":
            raise self._foreign()
        if head.get("format") != FORMAT:
            raise GraftError(f"{self.path} is of another version of graft: choose another file")
        if head.get("scale") != self.scale.name:
            raise GraftError(
                f"{self.path} holds ratings on the scale {head.get('scale')!r}, not {self.scale.name!r}: use that "
                "scale, or another file"
            )

    def _foreign(self) -> GraftError:
        return GraftError(f"{self.path} is not a file of ratings: choose another file")

    def _read(self, line: Any) -> None:
        draw, value = (line.get("draw"), line.get("rating")) if isinstance(line, dict) else (None, None)
        known = value is None or (type(value) is int and value in self.scale.choices)
        if not isinstance(draw, str) or not known:
            raise GraftError(f"{self.path} is damaged (a line is no rating): remove the line, or choose another file")
        if not line.get("undo"):
            self._undo.append((draw, self.values.get(draw)))
        elif self._undo:
            self._undo.pop()
        self._set(draw, value)

    def _append(self, line: dict[str, Any]) -> None:
        """Append a line in one call of the system, and force it onto the disk."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                size = os.fstat(file).st_size
                torn = size > 0 and _last_byte(file, size) != b"\n"
                data = (("\n" if torn else "") + json.dumps(line) + "\n").encode()
                if os.write(file, data) != len(data):
                    raise OSError(None, "the disk is full")
                os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise WriteError(
                f"cannot write {self.path} ({error.strerror}): free the disk or choose another folder"
            ) from None


def _last_byte(file: int, size: int) -> bytes:
    os.lseek(file, size - 1, os.SEEK_SET)
    return os.read(file, 1)
