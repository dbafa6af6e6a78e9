"""Ctrl-C, and SIGTERM of a cluster: the step is finished, a checkpoint saved, and the way to go on is said."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, Trainer

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BETWEEN = "between two rounds"


class Interrupted(KeyboardInterrupt):
    """A run was asked to stop, and stands where it can go on.

    Attributes:
        status: For the process to end with: 130 after Ctrl-C, 143 after SIGTERM.
        folder: Of the run.
    """

    def __init__(self, status: int, folder: Path, where: str) -> None:
        super().__init__(where)
        self.status, self.folder, self.where = status, folder, where


class _Stop(BaseException):
    """Out of Lightning's loops; not a KeyboardInterrupt, of which Lightning makes an end of its own."""


class Interruption(Callback):
    """Ends a run between two steps, or between two chunks of a rollout, where a signal asks for it.

    Called from several processes, all end where one was asked. A second signal ends the process at once.

    Args:
        folder: Of the run; the checkpoint is ``checkpoints/last.ckpt`` in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: int | None = None
        self.where = BETWEEN

    def install_handlers(self) -> None:
        """Take the signals over; Lightning's handlers, which are set just before the first rollout, would not save."""
        if self.asked is None and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._heard)

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Listen, where there was no rollout."""
        self.install_handlers()

    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """The comparison at the end has nothing to save: it ends at once."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._ended)

    def _ended(self, number: int, frame: "FrameType | None") -> None:
        raise Interrupted(128 + number, self.folder, "in the comparison at the end")

    def _heard(self, number: int, frame: "FrameType | None") -> None:
        self.asked = number
        for each in SIGNALS:
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
        print("graft: finishing the step, then saving; once more ends it at once", flush=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Between two rounds there is a checkpoint already."""
        self.stop(trainer)

    def stop(self, trainer: Any, where: str = BETWEEN) -> None:
        """End, if any process was asked to; all processes call it together.

        Args:
            trainer: Of the run.
            where: The run stands, in words, for the message.
        """
        if self._agreed(trainer):
            self.where = where
            trainer.strategy.barrier()  # the first one to leave would take the others' answers with it
            raise _Stop

    def step(self, trainer: Any, batch_idx: int) -> None:
        """After a training batch and all that follows from it: between two steps of the optimizer, save.

        The last step of a round is left to the round's own end, where it is validated and saved.
        """
        count = batch_idx + 1
        if count == trainer.num_training_batches or count % trainer.accumulate_grad_batches:
            return
        if self._agreed(trainer):
            trainer.save_checkpoint(self.folder / "checkpoints" / "last.ckpt")
            self.where = f"after step {trainer.global_step}"

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """The step that was saved is in the logs by now."""
        if self.where != BETWEEN:
            trainer.strategy.barrier()
            raise _Stop

    def _agreed(self, trainer: Any) -> bool:
        asked = self.asked is not None
        if trainer.world_size > 1:
            asked = bool(trainer.strategy.reduce_boolean_decision(asked, all=False))
        if asked and self.asked is None:  # another process was
            self.asked = signal.SIGTERM
        return asked

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Within the block, of a trainer's fit, an end is told as `Interrupted`, and so is one that came too late."""
        here = threading.current_thread() is threading.main_thread()
        handlers = {number: signal.getsignal(number) for number in SIGNALS} if here else {}
        try:
            yield
        except _Stop:
            pass
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self.asked is not None:
            raise Interrupted(128 + self.asked, self.folder, self.where)


@contextmanager
def at_once(folder: Path, where: str) -> Iterator[None]:
    """Within the block a signal ends the run at once: what is done is on disk, and there is no step to finish.

    Lightning's own handlers would ignore SIGTERM, or end a fit with status 0; they call the one that is set here.

    Args:
        folder: Of the run.
        where: The run stands, in words, for the message.

    Raises:
        Interrupted: A signal came.
    """

    def heard(number: int, frame: "FrameType | None") -> None:
        for each in SIGNALS:  # once more ends the process without a message
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted(128 + number, folder, where)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, heard) for each in SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def find_interruption(trainer: Any) -> "Interruption | None":
    """The trainer's, if it has one."""
    return next((each for each in trainer.callbacks if isinstance(each, Interruption)), None)


def completed_batches(trainer: Any) -> int:
    """Batches of this epoch that were learned before it was interrupted; asked before each epoch's batches are made."""
    asked = find_interruption(trainer)
    if asked is not None:
        asked.install_handlers()
    progress = trainer.fit_loop.epoch_progress.current
    begun = progress.started > progress.processed
    progress.completed = progress.processed  # as Lightning has it later: a checkpoint's own epoch counts as done
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.processed) if begun else 0
