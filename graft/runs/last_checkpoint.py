"""The checkpoint that a run is resumed from."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from typing_extensions import override


class LastCheckpoint(ModelCheckpoint):
    """Saves ``checkpoints/last.ckpt`` after each epoch, next to checkpoints of the user.

    A subclass is needed because Lightning keys the states of checkpoint callbacks by class and settings, and replaces
    callbacks of the same class by those of `LightningModule.configure_callbacks`.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "checkpoints", "last", enable_version_counter=False, save_on_train_epoch_end=True)
        self._trainer: Trainer | None = None
        self._stopped = False

    @override
    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._trainer = trainer

    @override
    def state_dict(self) -> dict[str, Any]:
        """Return the state, with ``stopped``: True if training was stopped early.

        Lightning does not store this.
        """
        stopped = self._trainer is not None and self._trainer.should_stop
        return {**super().state_dict(), "stopped": bool(stopped)}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._stopped = state_dict.get("stopped", False)
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "stopped"})

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop a resumed run that was stopped early, so that it ends like an uninterrupted run."""
        if self._stopped:
            trainer.should_stop = True


def attach_last_checkpoint(trainer: Trainer, folder: Path) -> None:
    """Add the checkpoint callback of the run to a trainer.

    Checkpoint callbacks of the user that name no folder save to the same folder.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [each for each in callbacks if not isinstance(each, LastCheckpoint)]
    for each in callbacks:
        if isinstance(each, ModelCheckpoint) and each.dirpath is None:
            each.dirpath = str((folder / "checkpoints").resolve())  # Lightning stores absolute paths
    # the run's callback comes last, so that its checkpoint holds the states of the others
    callbacks.append(LastCheckpoint(folder))
