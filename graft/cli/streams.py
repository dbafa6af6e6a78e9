"""Standard streams that cannot end a run: closed, without a reader, or of a limited encoding."""

import os
import sys
from typing import Any, TextIO


class Lasting:
    """A stream that drops text once its reader is gone.

    Args:
        stream: Stream to write to.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text, or drop it, and return its length."""
        try:
            return self._stream.write(text)
        except (BrokenPipeError, ValueError):  # ValueError: closed
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush the stream if it has a reader."""
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

    Closed descriptors are opened on the null device first: otherwise the next opened file gets their number, and the
    output of C libraries ends in that file.
    """
    for number, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, mode)  # gets the lowest free number, which is this one
            if null != number:
                os.dup2(null, number)
                os.close(null)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal may lack characters
        setattr(sys, name, Lasting(stream))
