"""Programs of a benchmark's authors: found in a checkout of their repository, shown or run, and their results read."""

import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io import text
from graft.io.json_files import parse_json


@dataclass(frozen=True)
class Program:
    """A call of a script of a repository.

    Attributes:
        script: Script, relative to the folder of the repository.
        arguments: Its arguments.
        folder: Folder in which it runs, relative to the repository: scripts read their own files by relative paths.
    """

    script: str
    arguments: tuple[str, ...]
    folder: str = "."

    def command(self, code: Path, python: str) -> list[str]:
        """Return the command for a checkout and an interpreter."""
        return [python, str(code / self.script), *self.arguments]


def call(programs: Sequence[Program], code: str, python: str, url: str, dry_run: bool) -> str:
    """Run programs one after the other, or only check that they are there; return their commands as text.

    Args:
        programs: The programs.
        code: Folder with a checkout of the repository.
        python: Interpreter with the packages of the benchmark.
        url: Address of the repository, for messages.
        dry_run: Do not run them.

    Raises:
        GraftError: A program is missing or ends with an error.
    """
    root, lines = Path(code).resolve(), list[str]()
    for each in programs:
        if not (root / each.script).is_file():
            raise GraftError(f"{code} has no {each.script}: clone {url} and give its folder with --code")
    for each in programs:
        command = each.command(root, python)
        lines.append(f"cd {shlex.quote(str(root / each.folder))} && {shlex.join(command)}")
        if dry_run:
            continue
        try:
            done = subprocess.run(command, cwd=root / each.folder, check=False)
        except OSError as error:
            raise GraftError(f"{python} cannot be started ({error}): give an interpreter with --python") from None
        if done.returncode:
            raise GraftError(
                f"{each.script} ended with status {done.returncode}; its own words are above. Install its packages for "
                f"{python}, or give another interpreter with --python"
            )
    return "\n".join(lines)


def read_results(path: Path, of_lines: bool = False) -> list[dict[str, Any]]:
    """Return the list of objects in a result file: a JSON list, or an object in each line.

    Raises:
        GraftError: The file is missing or holds something else.
    """
    try:
        content = text.read_utf8(path)
        found = (
            [parse_json(line) for line in text.split_lines(content) if line.strip()]
            if of_lines
            else parse_json(content)
        )
    except (OSError, ValueError) as error:
        raise GraftError(f"the benchmark's program wrote no results to {path} ({error}): see its own output") from None
    if not isinstance(found, list) or not found or not all(isinstance(each, dict) for each in found):
        raise GraftError(f"{path} is no list of results: see the output of the benchmark's program")
    return found


def table(rows: "Sequence[tuple[str, float, int]]") -> str:
    """Return lines of (name, score, number of pictures) as text."""
    wide = max(len(name) for name, _, _ in rows)
    return "\n".join(f"{name:<{wide}}  {score:.4f}  ({count} pictures)" for name, score, count in rows)
