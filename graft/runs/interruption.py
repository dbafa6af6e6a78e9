"""Stop a run on Ctrl-C or SIGTERM: finish the step, save a checkpoint, raise Interrupted."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, Trainer
from typing_extensions import override

SIGNALS = (signal.SIGINT, signal.SIGTERM)
BETWEEN = "between two rounds"


class Interrupted(KeyboardInterrupt):
    """A signal stopped a run at a point from which it can resume.

    Attributes:
        status: Exit status of the process: 130 after Ctrl-C, 143 after SIGTERM.
        folder: Folder of the run.
        where: Phrase for the point of the stop, for the message.
    """

    def __init__(self, status: int, folder: Path, where: str) -> None:
        super().__init__(where)
        self.status, self.folder, self.where = status, folder, where


class _Stop(BaseException):
    """Leaves the loops of Lightning; a KeyboardInterrupt would be handled by Lightning itself."""


class Interruption(Callback):
    """Ends a run after a signal, between two steps or between two chunks of a rollout.

    If one rank receives a signal, all ranks end together. A second signal ends the process at once.

    Args:
        folder: Folder of the run. The checkpoint is ``checkpoints/last.ckpt`` in the folder.

    Attributes:
        signal_number: Number of the signal that this rank received; None before a signal.
        where: Phrase for the point of the stop, for the message.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.signal_number: int | None = None
        self.where = BETWEEN

    def install_handlers(self) -> None:
        """Replace the signal handlers of Lightning, which would not save a checkpoint.

        Lightning sets its handlers just before the first rollout.
        """
        if self.signal_number is None and threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._heard)

    @override
    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Install the handlers, if no rollout has installed them."""
        self.install_handlers()

    @override
    def on_test_start(self, trainer: Trainer, pl_module: Any) -> None:
        """End at once on a signal from here on, since the comparison has no state to save."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._ended)

    def _ended(self, number: int, frame: "FrameType | None") -> None:
        raise Interrupted(128 + number, self.folder, "in the comparison at the end")

    def _heard(self, number: int, frame: "FrameType | None") -> None:
        self.signal_number = number
        for each in SIGNALS:
            signal.signal(each, signal.default_int_handler if each == signal.SIGINT else signal.SIG_DFL)
        print("graft: finishing the step, then saving; a second signal ends the run at once", flush=True)

    @override
    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop without a new checkpoint: the end of the last round has saved one."""
        self.stop(trainer)

    def stop(self, trainer: Any, where: str = BETWEEN) -> None:
        """End the run if any rank received a signal. All ranks must call it together.

        Args:
            trainer: Trainer of the run.
            where: Phrase for the point of the stop, for the message.
        """
        if self._agreed(trainer):
            self.where = where
            trainer.strategy.barrier()  # a rank that leaves early would break the reduction of the other ranks
            raise _Stop

    def step(self, trainer: Any, batch_idx: int) -> None:
        """Save a checkpoint between two optimizer steps, if any rank received a signal.

        After the last step of a round there is no extra checkpoint, since the end of the round saves one.

        Args:
            trainer: Trainer of the run.
            batch_idx: Number of the batch that was trained on.
        """
        count = batch_idx + 1
        if count == trainer.num_training_batches or count % trainer.accumulate_grad_batches:
            return
        if self._agreed(trainer):
            trainer.save_checkpoint(self.folder / "checkpoints" / "last.ckpt")
            self.where = f"after step {trainer.global_step}"

    @override
    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        """Stop after `step` has saved a checkpoint: by now the loggers have the saved step."""
        if self.where != BETWEEN:
            trainer.strategy.barrier()
            raise _Stop

    def _agreed(self, trainer: Any) -> bool:
        stops = self.signal_number is not None
        if trainer.world_size > 1:
            stops = bool(trainer.strategy.reduce_boolean_decision(stops, all=False))
        if stops and self.signal_number is None:  # another rank received the signal
            self.signal_number = signal.SIGTERM
        return stops

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Raise `Interrupted` at the end of the block, a call of ``Trainer.fit``, after a signal."""
        here = threading.current_thread() is threading.main_thread()
        handlers = {number: signal.getsignal(number) for number in SIGNALS} if here else {}
        try:
            yield
        except _Stop:
            pass
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        if self.signal_number is not None:
            raise Interrupted(128 + self.signal_number, self.folder, self.where)


@contextmanager
def at_once(folder: Path, where: str) -> Iterator[None]:
    """Raise `Interrupted` at once if a signal comes within the block.

    The block suits work with all results on disk and no step to finish. The handlers of Lightning would ignore SIGTERM,
    or end ``Trainer.fit`` with status 0; they call the handler that is set here.

    Args:
        folder: Folder of the run.
        where: Phrase for the point of the stop, for the message.
    """

    def heard(number: int, frame: "FrameType | None") -> None:
        for each in SIGNALS:  # a second signal ends the process without a message
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
    """Return the `Interruption` callback of a trainer, or None."""
    return next((each for each in trainer.callbacks if isinstance(each, Interruption)), None)


def completed_batches(trainer: Any) -> int:
    """Return the number of batches of this epoch that were done before an interruption.

    The function must be called before the batches of each epoch are made. It also installs the signal handlers and
    corrects the progress of Lightning.
    """
    found = find_interruption(trainer)
    if found is not None:
        found.install_handlers()
    progress = trainer.fit_loop.epoch_progress.current
    started = progress.started > progress.processed
    progress.completed = progress.processed  # Lightning counts the epoch of a checkpoint as completed later
    return int(trainer.fit_loop.epoch_loop.batch_progress.current.processed) if started else 0
