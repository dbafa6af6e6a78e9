"""metrics.csv: one row for each time that something was logged; a resumed run goes on in the same file.

Rows are appended as they come, so that neither memory nor time grows with the run; the file is written anew only where
a name comes that it has no column for.
"""

import csv
import io
import math
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from graft import files
from graft.errors import GraftError, WriteError


class ResumableCSVLogger(Logger):
    """Keeps what is logged in a CSV file with a column for each name.

    Lightning's own CSVLogger deletes the file of a run that is resumed; this one takes up to the step that the run is
    resumed from and goes on.

    Args:
        path: The file.
        step: Of the checkpoint that is resumed from: rows from there on are dropped, they will be logged again.
    """

    def __init__(self, path: Path, step: int = 0) -> None:
        super().__init__()
        self.path = path
        self._names: list[str] = []
        self._pending: list[dict[str, Any]] = []
        if step and path.exists():
            self._anew([row for row in read(path) if int(row["step"]) < step])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All that was logged."""
        return [*(read(self.path) if self._names else []), *self._pending]

    @property
    def save_dir(self) -> str:
        """Folder of the run: what Lightning and its callbacks save goes there."""
        return str(self.path.parent)

    @property
    def name(self) -> str:
        """Empty: there is no folder of this name in `save_dir`."""
        return ""

    @property
    def version(self) -> str:
        """Empty, likewise."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: "dict[str, float]", step: "int | None" = None) -> None:
        """Add a row, without the values that are not finite (a metric of nothing is NaN)."""
        self._pending.append({"step": step or 0, **{k: v for k, v in metrics.items() if math.isfinite(v)}})
        if len(self._pending) >= 50:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write what is new.

        Raises:
            GraftError: The disk is full.
        """
        if any(name not in self._names for row in self._pending for name in row):
            self._anew(self.rows)
        elif self._pending:
            try:
                with self.path.open("a", newline="", encoding="utf-8") as file:
                    file.write(self._text(self._pending))
            except OSError as error:
                raise WriteError(f"cannot write {self.path} ({error}): free the disk, and go on") from None
        self._pending = []

    @rank_zero_only
    def _anew(self, rows: "list[dict[str, Any]]") -> None:
        self._names = list(dict.fromkeys(name for row in rows for name in row))
        if rows:
            files.write_text(self.path, self._text([dict(zip(self._names, self._names, strict=True)), *rows]))

    def _text(self, rows: "list[dict[str, Any]]") -> str:
        text = io.StringIO()
        csv.DictWriter(text, self._names, restval="").writerows(rows)
        return text.getvalue()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the file."""
        self.save()


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of such a file, each with what it has; a last one that was being written is left out.

    Raises:
        GraftError: It is no such file.
    """
    try:
        whole = path.read_bytes()
        text = whole[: whole.rfind(b"\n") + 1].decode("utf-8-sig")
        rows = [{k: v for k, v in row.items() if v} for row in csv.DictReader(io.StringIO(text, newline=""))]
        if any(None in row or not row["step"].isdigit() for row in rows):
            raise ValueError("a row without a step")
        return rows
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise GraftError(f"{path} is damaged ({error}): move it away, and the curves begin anew") from None
