"""Progress of long work: a bar in a terminal or a notebook, and a line from time to time in a log file."""

import sys
import time
from types import TracebackType
from typing import Any, Protocol

from lightning.pytorch import Trainer
from tqdm.auto import tqdm
from typing_extensions import Self

INTERVAL = 30.0  # seconds between two lines


class Progress(Protocol):
    """Counter of finished parts of some work, used in a ``with`` block.

    Attributes:
        n: Number of finished parts.
    """

    n: float

    def update(self, n: "float | None" = 1) -> "bool | None":
        """Add a number of finished parts."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> Any: ...


def is_interactive() -> bool:
    """Return True if progress is shown in a terminal or a notebook, which can replace a line."""
    shell = sys.modules.get("IPython")
    notebook = shell is not None and type(shell.get_ipython()).__name__ == "ZMQInteractiveShell"
    return notebook or sys.stderr.isatty()


def disable_bar_in_log_files(trainer: Trainer) -> bool:
    """Disable the bar of Lightning where standard error is a file, and return whether it was.

    A file would keep every state of the bar.
    """
    bar = trainer.progress_bar_callback
    if bar is None or is_interactive():
        return False
    bar.disable()
    return True


def progress(title: str, total: "int | None", unit: str, quiet: bool = False, delay: float = 0) -> Progress:
    """Return a progress bar, or a `LogLines` where standard error is a file.

    Args:
        title: Words in front of the numbers.
        total: Number of parts; None if it is not known.
        unit: Name of a part, in the singular.
        quiet: True to show nothing.
        delay: Seconds that the work takes before anything is shown.
    """
    if quiet or is_interactive():
        bar: Progress = tqdm(total=total, desc=title, unit=unit, disable=quiet, mininterval=0.5, delay=delay)
        return bar
    return LogLines(title, total, unit, delay)


class LogLines:
    """Prints a line at most every thirty seconds, and a line at the end.

    Args:
        title: Words in front of the numbers.
        total: Number of parts; None if it is not known.
        unit: Name of a part, in the singular.
        delay: Seconds that the work takes before anything is shown.
    """

    def __init__(self, title: str, total: "int | None", unit: str, delay: float = 0) -> None:
        self.title, self.total, self.unit, self.delay, self.n = title, total, unit, delay, 0.0
        self._start = self._last = time.perf_counter()

    def update(self, n: "float | None" = 1) -> None:
        """Add a number of finished parts."""
        self.n += 1 if n is None else n
        now = time.perf_counter()
        if now - self._last < INTERVAL or self.n == self.total:
            return
        self._last = now
        left = ""
        if self.total is not None:
            seconds = (now - self._start) * (self.total - self.n) / max(self.n, 1)
            left = f"; about {format_duration(seconds)} left"
        self._print(left)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        seconds = time.perf_counter() - self._start
        if seconds >= self.delay:
            self._print(f" in {format_duration(seconds)}")

    def _print(self, end: str) -> None:
        total = "" if self.total is None else f" of {self.total}"
        print(f"graft: {self.title}: {self.n:.0f}{total} {self.unit}s{end}", file=sys.stderr, flush=True)


def format_duration(seconds: float) -> str:
    """Return a duration as text in its two largest units."""
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
