"""A reward in a program of its own, such as another Python interpreter: lines of JSON in, lines of JSON out."""

import contextlib
import json
import math
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any

from typing_extensions import override

from graft.core import limits
from graft.errors import GraftError
from graft.io.checksum import file_checksum
from graft.io.json_files import parse_json
from graft.reward.file_reward import FileReward, ObjectFile
from graft.reward.json_answers import UnusableAnswer, read_scores
from graft.reward.scores import Scores, bounded

PATIENCE = 1.0
"""Seconds in which a program ends by itself after its input is closed."""


class ProgramReward(FileReward):
    """A score by a program that runs on its own: another interpreter, environment or language.

    The program reads a line of JSON for each request and answers with one line. A request is ``{"objects": [{"file":
    "/tmp/…/0.png", "caption": …}, …]}``: files that the domain wrote, which exist until the answer, and the condition
    of each object in words. The answer is ``{"scores": [0.5, null, …], "errors": {"1": "why"}}`` with a number or null
    for each object; ``errors`` may be left out. Other lines of its output are ignored, and no pickle is exchanged. The
    program's first request has no objects.

    A program that crashes or hangs is started again, and the objects of its request are sent one by one, so that only
    the object that causes it fails. An object without a number fails.

    Args:
        command: Program and arguments, such as ``[/opt/other/bin/python, score.py]``.
        batch_size: Number of objects in a request.
        timeout: Time limit of a request in seconds.
        startup_timeout: Time limit of the first answer in seconds, for the imports of the program.
        higher_is_better: False if smaller is better.
        name: Name in tables; the name of the program's last file if not given.
        unit: Unit of the values.
    """

    def __init__(
        self,
        command: "list[str]",
        batch_size: int = 16,
        timeout: float = 60.0,
        startup_timeout: float = 120.0,
        higher_is_better: bool = True,
        name: "str | None" = None,
        unit: str = "",
    ) -> None:
        limits.check("data.reward.batch_size", batch_size, 1)
        limits.check("data.reward.timeout", timeout, 0, above=True)
        limits.check("data.reward.startup_timeout", startup_timeout, 0, above=True)
        if not command or not all(isinstance(part, str) and part for part in command):
            raise GraftError("data.reward.command is empty; it must be a list: a program and its arguments")
        self.command, self.batch_size, self.timeout = list(command), batch_size, timeout
        self.startup_timeout, self.higher_is_better, self.unit = startup_timeout, higher_is_better, unit
        files = [part for part in command if Path(part).is_file()]
        self.name = name or Path((files or command)[-1]).stem
        self._running: _Running | None = None

    @override
    def identity(self) -> Any:
        """Return the command with the hashes of its files, and the direction."""
        files = {part: file_checksum(part) for part in self.command[1:] if Path(part).is_file()}
        return {"command": self.command, "files": files, "higher_is_better": self.higher_is_better}

    @override
    def setup(self) -> None:
        """Start the program and wait for its answer to a request without objects.

        Raises:
            GraftError: The program does not start or answers nothing usable, or there is no domain.
        """
        _ = self.domain
        if self._running is not None:
            return
        try:
            self._running = _Running(self.command)
            read_scores(self._running.request({"objects": []}, self.startup_timeout), 0)
        except (OSError, _Ended, UnusableAnswer) as error:
            self._end()
            raise GraftError(
                f"the reward program {' '.join(self.command)} does not work ({error}): correct data.reward.command, or "
                'let it answer the line {"objects": []} with {"scores": []}'
            ) from None

    @override
    def teardown(self) -> None:
        self._end(PATIENCE)

    def _end(self, patience: float = 0.0) -> None:
        if self._running is not None:
            self._running.close(patience)
            self._running = None

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        scores = Scores([math.nan] * len(items))
        files: dict[int, ObjectFile] = {}
        for i, item in enumerate(items):
            try:
                files[i] = self.file_of(item)
            except GraftError as error:
                if self._domain is None:
                    raise
                scores.failures[i] = str(error)
                scores.cached.add(i)  # the program is not called for it
        rows = list(files)
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            for i, value in zip(batch, self._scores([files[i] for i in batch]), strict=True):
                if isinstance(value, str):
                    scores.failures[i] = value
                else:
                    scores.values[i] = value
        return scores

    def _scores(self, files: Sequence[ObjectFile]) -> "list[float | str]":
        """Return the score or the reason of the failure of each object of a request."""
        self.setup()
        assert self._running is not None
        try:
            with TemporaryDirectory(prefix="graft_") as folder:
                answer = self._running.request({"objects": _written(files, Path(folder))}, self.timeout)
            return read_scores(answer, len(files))
        except _Ended as error:
            self._end()
            why = str(error)
        except UnusableAnswer as error:
            why = str(error)
        if len(files) == 1:
            return [why]
        return [self._scores([file])[0] for file in files]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the program: a copy starts its own."""
        return super().__getstate__() | {"_running": None}


def _written(files: Sequence[ObjectFile], folder: Path) -> list[dict[str, str]]:
    """Write the files into a folder; return the objects of the request."""
    objects = []
    for number, file in enumerate(files):
        path = folder / f"{number}{file.suffix}"
        path.write_bytes(file.content)
        objects.append({"file": str(path), "caption": file.caption})
    return objects


class _Ended(Exception):
    """The program crashed, hung, or closed its output."""


class _Running:
    """A running program.

    Args:
        command: Program and arguments.

    Raises:
        OSError: There is no such program.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches this process only, and the program's children can be killed
        )
        self._answers: SimpleQueue[Any] = SimpleQueue()
        self._words: deque[str] = deque(maxlen=1)  # the last line of standard error
        self._readers = [threading.Thread(target=f, daemon=True) for f in (self._read, self._listen)]
        for reader in self._readers:
            reader.start()

    def request(self, content: Any, timeout: float) -> Any:
        """Return the answer to a request.

        Raises:
            _Ended: There is none.
        """
        while not self._answers.empty():  # lines beyond the answer to the last request
            if self._answers.get() is None:
                raise _Ended(self._end())
        line = (json.dumps(content) + "\n").encode()
        writer = threading.Thread(target=self._write, args=(line,), daemon=True)  # a full pipe must not block
        writer.start()
        try:
            answer = self._answers.get(timeout=timeout)
        except Empty:
            raise _Ended(f"no answer within {timeout:g} s") from None
        if answer is None:
            raise _Ended(self._end())
        return answer

    def _end(self) -> str:
        """Return how the program ended, with its last line of standard error."""
        try:
            status: int | None = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            status = None
        self._readers[1].join(PATIENCE)
        how = "the program closed its output"
        if status is not None:
            by = f"signal {-status}" if status < 0 else f"exit status {status}"
            how = f"the program ended with {by}"
        return how + (f": {bounded(self._words[0], 300)}" if self._words else "")

    def _write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # the program has ended, which its output shows
            self.process.stdin.write(line)
            self.process.stdin.flush()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self.process.stdout:
                if not line.lstrip().startswith(b"{"):  # what libraries print is no answer
                    continue
                try:
                    self._answers.put(parse_json(line))
                except ValueError:
                    self._answers.put({"error": "the answer is no JSON"})
        self._answers.put(None)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            for line in self.process.stderr:
                if text := line.decode(errors="replace").strip():
                    self._words.append(text)

    def close(self, patience: float = 0.0) -> None:
        """End the program and its children.

        Args:
            patience: Seconds in which the program may end by itself; 0 for a program that may hang.
        """
        pipes = self.process.stdin, self.process.stdout, self.process.stderr
        assert pipes[0] is not None
        if patience:
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                pipes[0].close()  # tells the program to end; it would wait for a write that hangs
                self.process.wait(patience)
        with contextlib.suppress(OSError, AttributeError):  # all have ended, or the system has no process groups
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(PATIENCE)
        for pipe in pipes:
            with contextlib.suppress(OSError, ValueError):
                assert pipe is not None
                pipe.close()

    def __del__(self) -> None:
        if "process" in vars(self) and self.process.poll() is None:
            self.close()
