"""Calls of a command-line program, each with a time limit and a folder of its own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from typing_extensions import override

from graft.core import limits
from graft.reward import Reward, Scores

TAIL = 1 << 20  # bytes that are read, from the end of the output


class CommandReward(Reward):
    """A reward that calls a program for each molecule.

    Args:
        timeout: Time limit of a call in seconds.
        workers: Number of calls at a time.
        environment: Environment variables of the program.
        name: Name in tables.
    """

    def __init__(self, timeout: float, workers: int, environment: "dict[str, str] | None", name: str) -> None:
        limits.check("timeout", timeout, 0, above=True)
        limits.check("workers", workers, 1)
        self.timeout, self.workers, self.environment, self.name = timeout, workers, environment or {}, name

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every molecule, ``workers`` of them at a time."""
        if self.workers == 1:
            return super().__call__(items)
        with ThreadPoolExecutor(self.workers) as pool:
            parts = list(pool.map(lambda item: super(CommandReward, self).__call__([item]), items))
        failures = {i: part.failures[0] for i, part in enumerate(parts) if part.failures}
        return Scores([part.values[0] for part in parts], failures)

    def run(self, words: Sequence[str], folder: Path) -> None:
        """Run a program in a folder; its output is in the files ``stdout`` and ``stderr`` there.

        The program and its children are killed at the end.

        Args:
            words: The program and its arguments.
            folder: Folder in which the program runs.

        Raises:
            RuntimeError: The program is missing, or ends with another status than 0.
            TimeoutError: The program takes too long.
        """
        program = find_program(words[0])
        if program is None:
            raise RuntimeError(f"there is no program {words[0]!r}")
        with open(folder / "stdout", "wb") as out, open(folder / "stderr", "wb") as err:
            process = subprocess.Popen(
                [program, *words[1:]],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **self.environment},
                start_new_session=True,  # a group of its own, so that its children can be killed too
            )
            try:
                status = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"{self.name} gave no answer within {self.timeout:g} s") from None
            finally:
                _end(process)
        if status != 0:
            message = self.error_message([line for line in tail(folder / "stderr").splitlines() if line.strip()])
            raise RuntimeError(f"{self.name} ended with status {status}" + (f": {message}" if message else ""))

    def error_message(self, lines: Sequence[str]) -> str:
        """Return the part of a failed program's errors that is shown.

        Args:
            lines: Lines that the program wrote to ``stderr``, without empty ones.
        """
        return lines[-1].strip() if lines else ""


def find_program(program: str) -> "str | None":
    """Return the absolute path of a program, since it runs in another folder; None if there is none."""
    path = shutil.which(program)
    return os.path.abspath(path) if path is not None else None


def tail(path: Path) -> str:
    """Return the end of a text file."""
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().decode("utf-8", errors="replace")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all its children."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
