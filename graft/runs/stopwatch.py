"""Count the seconds of a run over all its sessions, including killed ones."""

import json
import math
import os
import threading
import time
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from lightning.pytorch import Trainer

from graft.core import distributed
from graft.io.json_files import parse_json

NAME = "elapsed.json"
"""File in the folder of an unfinished run that holds the seconds of its sessions so far."""

INTERVAL = 1.0
"""Seconds between two updates of the file: a kill loses at most this much of the count."""

WIDTH = 64
"""Bytes of the file. It is overwritten in place by a single write, so a kill never leaves a part of it."""


_OF: "WeakKeyDictionary[Any, Stopwatch]" = WeakKeyDictionary()


class Stopwatch:
    """Counts the seconds of a run from its first session on.

    A thread of rank 0 writes the count to the folder of the run every second, since a killed process cannot write. The
    clock is monotonic, so changes of the system time have no effect. The object is a context manager; on exit the
    thread ends.
    """

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._earlier = 0.0
        self._path: Path | None = None
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def seconds(self) -> float:
        """Return the seconds of all sessions until now."""
        return self._earlier + time.perf_counter() - self._since

    def keep(self, folder: Path, trainer: "Trainer | None" = None) -> None:
        """Add the seconds of earlier sessions and start to write the count to the folder.

        Args:
            folder: Folder of the run.
            trainer: Trainer of the run; its callbacks find the stopwatch with `of`.
        """
        if trainer is None:
            self._earlier = read_seconds(folder)
        else:
            self._earlier = distributed.on_rank_zero(trainer, lambda: read_seconds(folder))
            _OF[trainer] = self
        if trainer is None or trainer.is_global_zero:
            self._path = folder / NAME
            self._note()
            self._thread = threading.Thread(target=self._run, name="graft-stopwatch", daemon=True)
            self._thread.start()

    def finish(self) -> None:
        """Stop and remove the file: the run is finished, and ``summary.json`` has its seconds."""
        self._stop()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None

    def __enter__(self) -> "Stopwatch":
        return self

    def __exit__(self, *_: Any) -> None:
        self._stop()
        if self._path is not None:
            self._note()

    def _stop(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._ended.wait(INTERVAL):
            self._note()

    def _note(self) -> None:
        assert self._path is not None
        text = json.dumps({"seconds": round(self.seconds, 3)}).ljust(WIDTH - 1) + "\n"
        try:
            # a link is not followed, because its target is not a file of the run
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
            try:
                os.write(file, text.encode())
            finally:
                os.close(file)
        except OSError:  # a full disk must not end the run for the count alone
            pass


def read_seconds(folder: Path) -> float:
    """Return the seconds of earlier sessions of an unfinished run; 0 for a new run.

    A damaged file does not stop the run: graft prints a message and counts from 0.
    """
    path = folder / NAME
    if not path.exists() or (folder / "summary.json").exists():
        return 0.0
    try:
        seconds = float(parse_json(path.read_text(encoding="utf-8-sig"))["seconds"])
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"{seconds} seconds")
        return seconds
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        distributed.rank_zero_print(f"{path} is damaged ({error}): the seconds of earlier sessions are not counted")
        return 0.0


def find_stopwatch(trainer: Any) -> Stopwatch:
    """Return the stopwatch of the run of a trainer."""
    return _OF[trainer]
