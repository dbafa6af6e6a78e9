"""Print a line after every round, with the remaining time."""

import time
from typing import Any

from lightning.pytorch import Callback, Trainer
from typing_extensions import override

REMEMBERED = 5  # number of last rounds that the remaining time is estimated from


class RoundProgressCallback(Callback):
    """Prints the accepted draws and the seconds of each round, and the remaining time."""

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._took: list[float] = []

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._since = time.perf_counter()

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        now = time.perf_counter()
        self._took = [*self._took, now - self._since][-REMEMBERED:]
        self._since = now
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        rounds, account = trainer.max_epochs or 1, data.accounts[-1]
        left = (rounds - account.round - 1) * sum(self._took) / len(
            self._took
        ) + 2 * data.evaluation.test_draws * data.seconds_per_draw
        if trainer.is_global_zero:
            print(
                f"graft: round {account.round + 1}/{rounds}: {account.accepted} of {account.draws} accepted, "
                f"{format_duration(self._took[-1])}; about {format_duration(left)} left",
                flush=True,
            )


def format_duration(seconds: float) -> str:
    """Return a duration as text in its two largest units."""
    whole = round(seconds)
    for unit, size, smaller, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {unit}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
