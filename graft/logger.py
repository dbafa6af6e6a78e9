"""metrics.csv: one row for each time that something was logged; a resumed run goes on in the same file."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from graft import files


class MetricsFile(Logger):
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
        self.rows: list[dict[str, Any]] = []
        if step and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = [{k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file)]
            self.rows = [row for row in rows if int(row["step"]) < step]

    @property
    def name(self) -> str:
        """Of the logger."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run's config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: "dict[str, float]", step: "int | None" = None) -> None:
        """Add a row."""
        self.rows.append({"step": step or 0, **metrics})
        if len(self.rows) % 50 == 0:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Write the file."""
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="")
        writer.writeheader()
        writer.writerows(self.rows)
        files.write_text(self.path, text.getvalue())

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the file."""
        if self.rows:
            self.save()
