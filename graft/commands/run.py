"""A run on disk, opened from Python: its model, its figures as tables, its hits and fresh samples."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from graft.commands.samples import sample
from graft.errors import GraftError
from graft.io import yaml_files
from graft.io.csv_files import unescape_formula
from graft.module import GraftModule
from graft.rounds import RoundSummary

Rows = list[dict[str, Any]]
"""Rows of a table by column; ``pandas.DataFrame`` takes them."""


@dataclass(frozen=True)
class Run:
    """The folder of a run, finished or not; tables are lists of rows, which ``pandas.DataFrame`` takes.

    Attributes:
        folder: Folder of the run.
        trust: The run is one of your own: its ``config.yaml`` may name any class and file.
    """

    folder: Path
    trust: bool = False

    @property
    def is_finished(self) -> bool:
        """Return True if the run has its final comparison."""
        return (self.folder / "summary.json").exists()

    @property
    def summary(self) -> dict[str, Any]:
        """Return the content of ``summary.json``."""
        path = self.folder / "summary.json"
        if not path.exists():
            raise GraftError(
                f"the run in {self.folder} is not finished: resume it with graft.fit(..., checkpoint='last') or "
                f"graft fit --config {self.folder / 'config.yaml'} --run_dir {self.folder} --ckpt_path last"
            )
        return _json(path)

    @property
    def config(self) -> dict[str, Any]:
        """Return the settings of the run."""
        path = self.folder / "config.yaml"
        return dict(yaml_files.parse_yaml(path.read_text(encoding="utf-8-sig"), str(path)) or {})

    @property
    def metrics(self) -> Rows:
        """Return the rows of ``metrics.csv``: one for each logged step."""
        return _table(self.folder / "metrics.csv")

    @property
    def rounds(self) -> Rows:
        """Return the counts and rewards of each finished round."""
        rows: Rows = []
        while (folder := self.folder / "rounds" / str(len(rows))).is_dir() and (folder / "round.json").exists():
            rows.append(dict(vars(RoundSummary.read(folder)[0])))
        return rows

    @property
    def hits(self) -> Rows:
        """Return the best distinct objects of all draws, as ``hits.csv`` lists them."""
        return _table(self.folder / "hits.csv", ("rank", "reward", "times"))

    def accepted(self, number: int) -> Rows:
        """Return the draws that round ``number``, counted from 0, accepted."""
        path = self.folder / "rounds" / str(number) / "accepted.csv"
        if not path.exists():
            raise GraftError(f"number is {number}; it must be a finished round of {self.folder}, counted from 0")
        return _table(path, ("draw", "reward", "weight"))

    @cached_property
    def module(self) -> GraftModule:
        """Return the tuned model."""
        return from_pretrained(self.folder, trust=self.trust)

    def sample(self, count: int, seed: int = 0) -> list[Any]:
        """Return ``count`` fresh objects of the tuned model, those of ``graft sample`` with the same seed."""
        return sample(self.module, count, seed)


def load_run(folder: "str | Path", *, trust: bool = False) -> Run:
    """Open the folder of a run, finished or not.

    Args:
        folder: The folder.
        trust: The run is one of your own: its ``config.yaml`` may name any class and file.

    Raises:
        GraftError: The folder holds no run.
    """
    folder = Path(folder)
    if not (folder / "config.yaml").exists():
        raise GraftError(f"folder is {folder}, which holds no run. Give the folder of a run, such as runs/molecule/1.")
    return Run(folder, trust)


def from_pretrained(path: "str | Path", *, trust: bool = False, **overrides: Any) -> GraftModule:
    """Return the model that a weights file describes, of any domain.

    Args:
        path: Weights file that graft wrote, or the folder of a run.
        trust: Read ``config.yaml`` in the folder of the run in place of the header: it may name any class and file.
        **overrides: Arguments of the constructor that replace those of the file, such as ``level``.

    Raises:
        GraftError: The file is missing, describes no model, or names what no model needs.
    """
    return GraftModule.from_pretrained(path, trust=trust, **overrides)


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8-sig")))
    except ValueError as error:
        raise GraftError(f"{path} is damaged ({error}): restore it") from None


def _table(path: Path, numeric: "Sequence[str] | None" = None) -> Rows:
    """Return the rows of a CSV file; none if there is no file.

    Args:
        path: Path of the file.
        numeric: Columns of numbers; all columns if not given. Other columns hold text, even where it looks like a
            number.
    """
    if not path.exists():
        return []
    with path.open(encoding="utf-8-sig", newline="") as file:
        head: Sequence[str] = next(lines := csv.reader(file), [])
        read = {name: _value if numeric is None or name in numeric else _text for name in head}
        return [{name: read[name](cell) for name, cell in zip(head, line, strict=False)} for line in lines]


def _value(cell: str) -> Any:
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return _text(cell)


def _text(cell: str) -> "str | None":
    return unescape_formula(cell) or None
