"""Standard streams that no run dies of: closed ones, readers that go away, and terminals without all characters."""

import os
import sys
from typing import Any, TextIO


class Lasting:
    """A stream whose reader may go away: from then on what is written is dropped.

    Args:
        stream: The stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop the text."""
        try:
            return self._stream.write(text)
        except (BrokenPipeError, ValueError):  # ValueError: closed
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush, if anybody reads."""
        try:
            self._stream.flush()
        except (BrokenPipeError, ValueError):
            self._drop()

    def _drop(self) -> None:
        self._stream = open(os.devnull, "w", encoding="utf-8")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def make_lasting() -> None:
    """Make standard output and error `Lasting`, for the ``graft`` command.

    Closed descriptors are opened on the null device first: the next file that is opened would get their number, and
    what C libraries print would end in it.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, mode)  # the lowest number that is free, so this one
            if null != number:
                os.dup2(null, number)
                os.close(null)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal of another encoding
        setattr(sys, name, Lasting(stream))
