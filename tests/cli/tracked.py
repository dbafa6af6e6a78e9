"""A user's own logger that records its calls, and a run of the toy with it."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from called import QUIET
from lightning.pytorch.loggers.logger import Logger

TRACKER = ["--trainer.logger", "tracked.Tracker"]
SMALL = [
    *["--data.draws", "64", "--data.evaluation.test_draws", "32", "--data.evaluation.validation_draws", "32"],
    *["--data.steps_per_round", "2"],
]
EVERY = ["--trainer.log_every_n_steps", "1", *QUIET]
FIT = [*["--config", "domains/mixture/mixture.yaml", "--model.weights", "run/reference.safetensors"], *SMALL, *EVERY]


class Tracker(Logger):
    """Writes a line of JSON for everything that it is given.

    Args:
        path: The file.
    """

    def __init__(self, path: str = "tracked.jsonl") -> None:
        super().__init__()
        self.path = Path(path)

    name = "tracker"
    version = "1"

    def _add(self, kind: str, **content: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"kind": kind, "pid": os.getpid(), **content}) + "\n")

    def log_metrics(self, metrics: Any, step: "int | None" = None) -> None:
        self._add("metrics", step=step, values=metrics)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self._add("hyperparameters", values=params)

    def log_image(self, key: str, images: "list[np.ndarray]", step: "int | None" = None) -> None:
        self._add("picture", key=key, step=step, shape=images[0].shape, dtype=str(images[0].dtype), n=len(images))

    def log_table(self, key: str, columns: "list[str]", data: "list[list[Any]]", step: "int | None" = None) -> None:
        self._add("table", key=key, step=step, columns=columns, rows=data)

    def finalize(self, status: str) -> None:
        self._add("finalize", status=status)


def tracked(path: "str | Path" = "tracked.jsonl") -> "dict[str, list[Any]]":
    """Return the calls of a `Tracker` by kind."""
    found: dict[str, list[Any]] = {}
    for line in Path(path).read_text().splitlines():
        content = json.loads(line)
        found.setdefault(content["kind"], []).append(content)
    return found
