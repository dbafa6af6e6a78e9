"""Write metrics.csv, with one row for each call of the logger; a resumed run appends to it.

Rows are appended, so that neither memory nor time per row grows with the run. The file is rewritten only if a new name
needs a new column.
"""

import csv
import io
import math
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only
from typing_extensions import override

from graft.errors import GraftError, WriteError
from graft.io.atomic import write_text
from graft.io.csv_files import csv_lines


class ResumableCSVLogger(Logger):
    """Writes logged scalars to a CSV file with a column for each name.

    The CSVLogger of Lightning deletes the file of a resumed run. This logger keeps the rows before the checkpoint.

    Args:
        path: Path of the file.
        step: Step of the checkpoint to resume from. Rows from this step on are dropped, since they are logged again.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        super().__init__()
        self.path = path
        self._names: list[str] = []
        self._pending: list[dict[str, Any]] = []
        if step and path.exists():
            self._rewrite([row for row in read_metrics(path) if int(row["step"]) < step])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return all logged rows."""
        return [*(read_metrics(self.path) if self._names else []), *self._pending]

    @property
    @override
    def save_dir(self) -> str:
        """Return the folder of the run, where Lightning and its callbacks save files."""
        return str(self.path.parent)

    @property
    @override
    def name(self) -> str:
        """Return an empty string, so that `save_dir` has no subfolder of this name."""
        return ""

    @property
    @override
    def version(self) -> str:
        """Return an empty string, so that `save_dir` has no subfolder of this version."""
        return ""

    @override
    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: ``config.yaml`` holds the settings of the run."""

    @override
    @rank_zero_only
    def log_metrics(self, metrics: "dict[str, float]", step: "int | None" = None) -> None:
        """Add a row of the finite values; a metric of no samples is NaN."""
        self._pending.append({"step": step or 0, **{k: v for k, v in metrics.items() if math.isfinite(v)}})
        if len(self._pending) >= 50:
            self.save()

    @override
    @rank_zero_only
    def save(self) -> None:
        """Write the pending rows.

        Raises:
            WriteError: The file cannot be written, for example because the disk is full.
        """
        if any(name not in self._names for row in self._pending for name in row):
            self._rewrite(self.rows)
        elif self._pending:
            try:
                with self.path.open("a", newline="", encoding="utf-8") as file:
                    file.write(self._text(self._pending))
            except OSError as error:
                raise WriteError(f"cannot write {self.path} ({error}): free the disk and resume") from None
        self._pending = []

    @rank_zero_only
    def _rewrite(self, rows: "list[dict[str, Any]]") -> None:
        self._names = list(dict.fromkeys(name for row in rows for name in row))
        if rows:
            write_text(self.path, csv_lines([self._names], "\r\n") + self._text(rows))

    def _text(self, rows: "list[dict[str, Any]]") -> str:
        return csv_lines([[row.get(name, "") for name in self._names] for row in rows], "\r\n")

    @override
    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a metrics file, each without its empty columns.

    An incomplete last line is skipped.

    Raises:
        GraftError: The file is damaged.
    """
    try:
        whole = path.read_bytes()
        text = whole[: whole.rfind(b"\n") + 1].decode("utf-8-sig")
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(io.StringIO(text, newline=""))]
        if any(None in row or not row["step"].isdigit() for row in rows):
            raise ValueError("a row without a step")
        return rows
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise GraftError(f"{path} is damaged ({error}): move it away, and new curves begin") from None
