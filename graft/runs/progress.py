"""Print a line after every round with the remaining time, and lines of steps and batches into a log file."""

import sys
import time
from typing import Any

from lightning.pytorch import Callback, Trainer
from typing_extensions import override

from graft.core.progress import INTERVAL, format_duration

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
        rounds, last = trainer.max_epochs or 1, data.summaries[-1]
        left = (rounds - last.round - 1) * sum(self._took) / len(
            self._took
        ) + 2 * data.evaluation.test_draws * data.seconds_per_draw
        if trainer.is_global_zero:
            print(
                f"graft: round {last.round + 1}/{rounds}: {last.accepted} of {last.draws} accepted, "
                f"{format_duration(self._took[-1])}; about {format_duration(left)} left",
                flush=True,
            )


class StepLinesCallback(Callback):
    """Prints the number of training steps, or of batches of samples, in place of Lightning's bar.

    A line comes at most every thirty seconds.
    """

    def __init__(self) -> None:
        self._last = time.perf_counter()

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._last = time.perf_counter()

    on_validation_start = on_test_start = on_train_epoch_start

    @override
    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss, parts = trainer.callback_metrics.get("train/loss"), trainer.accumulate_grad_batches
        done, steps = (-(-count // parts) for count in (batch_idx + 1, int(trainer.num_training_batches)))
        self._print(
            trainer,
            f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: training step {done} of {steps}"
            + ("" if loss is None else f", loss {float(loss):.4g}"),
        )

    @override
    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        batches = trainer.num_val_batches[dataloader_idx]
        self._print(trainer, f"validation: batch {batch_idx + 1} of {batches}")

    @override
    def on_test_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        done, batches = sum(trainer.num_test_batches[:dataloader_idx]) + batch_idx + 1, sum(trainer.num_test_batches)
        self._print(trainer, f"final comparison: batch {done:.0f} of {batches:.0f}")

    def _print(self, trainer: Trainer, text: str) -> None:
        now = time.perf_counter()
        if trainer.is_global_zero and now - self._last >= INTERVAL:
            self._last = now
            print(f"graft: {text}", file=sys.stderr, flush=True)
