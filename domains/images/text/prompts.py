"""Prompts from files: plain text, CSV, JSON and JSONL."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.errors import GraftError
from graft.io import text
from graft.io.json_files import parse_json, read_json
from graft.io.paths import find_file

COLUMNS = ("prompt", "caption", "text")  # columns of prompts, if none is given
TAGS = ("tag", "category", "challenge")  # columns of tags


@dataclass(frozen=True)
class Prompt:
    """A prompt and its tag (a skill of a benchmark), "" if there is none."""

    text: str
    tag: str = ""

    def __post_init__(self) -> None:
        try:
            (self.text + self.tag).encode()
        except UnicodeEncodeError:  # JSON may escape half of a UTF-16 pair, which tokenizers refuse
            raise GraftError(f"the prompt {self.text!r} holds half of a character: write it in UTF-8") from None


def read(paths: "str | Sequence[str]", column: "str | None" = None) -> list[Prompt]:
    """Return the prompts of files, in order; empty ones are left out.

    ``.txt``: one prompt in each line; several files tag their prompts with their names, as in T2I-CompBench++, which
    has one file for each category. ``.csv`` and ``.tsv``: a column. ``.jsonl``: an object in each line (GenEval's
    ``evaluation_metadata.jsonl``; its ``tag`` is kept). ``.json``: a list of strings or objects, or objects by number
    (GenAI-Bench's ``genai_image.json``).

    Args:
        paths: A file or several, by path or by name.
        column: Column or key of the prompts; the first of ``prompt``, ``caption`` and ``text`` if not given.

    Raises:
        GraftError: There are no prompts, or a file is of another kind.
    """
    names = [paths] if isinstance(paths, str) else list(paths)
    found: list[Prompt] = []
    for name in names:
        path = find_file(name)
        try:
            part = _read(path, column)
        except (UnicodeDecodeError, csv.Error) as error:
            raise GraftError(f"{path} is not text: {error}") from None
        if not part:
            raise GraftError(f"there are no prompts in {path}: give one in each line")
        tagged = len(names) > 1 and path.suffix.lower() == ".txt"
        found += [Prompt(prompt.text, prompt.tag or (path.stem if tagged else "")) for prompt in part]
    if not found:
        raise GraftError("there are no prompts: name a file of them with model.prompts")
    return found


def _read(path: Path, column: "str | None") -> list[Prompt]:
    suffix = path.suffix.lower()
    if suffix == ".txt":
        return [Prompt(line.strip()) for line in text.split_lines(text.read_utf8(path)) if line.strip()]
    if suffix in (".csv", ".tsv"):
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file, delimiter="\t" if suffix == ".tsv" else ","))
    elif suffix == ".jsonl":
        lines = enumerate(text.split_lines(text.read_utf8(path)), 1)
        rows = [_parse_line(line, f"line {number} of {path}") for number, line in lines if line.strip()]
    elif suffix == ".json":
        content = read_json(path)
        rows = list(content.values()) if isinstance(content, dict) else content
    else:
        raise GraftError(f"prompts are read from .txt, .csv, .tsv, .json and .jsonl files, not from {str(path)!r}")
    if not isinstance(rows, list):
        raise GraftError(f"{path} holds {type(rows).__name__}, not a list of prompts")
    prompts = [_prompt(row, column, path) for row in rows]
    return [prompt for prompt in prompts if prompt.text]


def _parse_line(line: str, name: str) -> Any:
    try:
        return parse_json(line)
    except ValueError as error:
        raise GraftError(f"{name} is not JSON: {error}") from None


def _prompt(row: Any, column: "str | None", path: Path) -> Prompt:
    if isinstance(row, str):
        return Prompt(row.strip())
    if not isinstance(row, dict):
        raise GraftError(
            f"{path} has a prompt that is {type(row).__name__}: give strings, or objects with a prompt each"
        )
    by = {str(name).strip().lower(): value for name, value in row.items()}
    wanted = (column.lower(),) if column is not None else COLUMNS
    name = next((name for name in wanted if isinstance(by.get(name), str)), None)
    if name is None:
        there = ", ".join(str(name) for name in row) or "none"
        raise GraftError(
            f"{path} has no column {' or '.join(map(repr, wanted))} of prompts; its columns are: {there}; name the one "
            "with model.prompt_column"
        )
    tag = next((by[name] for name in TAGS if isinstance(by.get(name), str)), "")
    return Prompt(by[name].strip(), tag.strip())
