"""SIGTERM ends a command where no run handles the signal itself: Lightning alone ignores it while a model samples."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """A SIGTERM ended a command."""

    status = 128 + signal.SIGTERM


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Raise `Terminated` on a SIGTERM within the block, unless the caller handles the signal.

    A forked process, which inherits the handler, ends as without it.
    """
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    owner = os.getpid()

    def heard(number: int, frame: "FrameType | None") -> None:
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the process without a message
        if os.getpid() != owner:
            os.kill(os.getpid(), number)
            return
        raise Terminated

    signal.signal(signal.SIGTERM, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
