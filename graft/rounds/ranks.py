"""Divide the chunks of a round among ranks, with progress, barriers and stop signals."""

from collections.abc import Iterator, Sequence

from lightning.pytorch import Trainer

from graft.core.progress import Progress, progress
from graft.runs import interruption


class Ranks:
    """The ranks that run a round together.

    Args:
        trainer: The trainer of the run.
        chunk_sizes: Number of samples in each chunk of a round.
    """

    def __init__(self, trainer: Trainer, chunk_sizes: Sequence[int]) -> None:
        self.trainer, self.chunk_sizes, self.total = trainer, chunk_sizes, sum(chunk_sizes)
        self.rank, self.world_size = trainer.global_rank, trainer.world_size

    @property
    def is_global_zero(self) -> bool:
        """Return True on rank 0."""
        return bool(self.trainer.is_global_zero)

    def progress(self, number: int, what: str) -> Progress:
        """Return a progress bar of a round that counts samples."""
        quiet = self.trainer.progress_bar_callback is None or not self.is_global_zero
        title = f"round {number + 1}/{self.trainer.max_epochs} {what}"
        return progress(title, self.total, "draw", quiet)

    def chunks(self, number: int, what: str) -> Iterator[int]:
        """Yield the index of each chunk of this rank, until this rank receives a stop signal."""
        with self.progress(number, what) as bar:
            for index in range(self.rank, len(self.chunk_sizes), self.world_size):
                if self._has_signal:
                    return
                yield index
                bar.update(min(self.chunk_sizes[0] * self.world_size, self.total - int(bar.n)))

    @property
    def _has_signal(self) -> bool:
        found = interruption.find_interruption(self.trainer)
        return found is not None and found.signal_number is not None

    def stop_after_signal(self) -> None:
        """End the run if any rank received a stop signal. All ranks must call it."""
        if (found := interruption.find_interruption(self.trainer)) is not None:
            found.stop(self.trainer)

    def barrier(self) -> None:
        """Wait for the other ranks."""
        self.trainer.strategy.barrier()

    def wait(self) -> None:
        """Wait for the other ranks, and end the run if any rank received a stop signal."""
        self.barrier()
        self.stop_after_signal()
