"""The checkpoint that a run is resumed from."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint


class LastCheckpoint(ModelCheckpoint):
    """Saves ``checkpoints/last.ckpt`` after each epoch, beside any checkpoint callback of the user.

    It is a class of its own because Lightning tells the states of checkpoint callbacks apart by class and settings, and
    replaces callbacks of the same class by those of `LightningModule.configure_callbacks`.

    Args:
        folder: Folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "checkpoints", "last", enable_version_counter=False, save_on_train_epoch_end=True)
        self._trainer: Trainer | None = None
        self._stopped = False

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """See `ModelCheckpoint.setup`."""
        super().setup(trainer, pl_module, stage)
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """Return the state, and whether training was stopped early, which Lightning does not keep."""
        stopped = self._trainer is not None and self._trainer.should_stop
        return {**super().state_dict(), "stopped": bool(stopped)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        self._stopped = state_dict.get("stopped", False)
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "stopped"})

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Train no further if training had been stopped early: a resumed run must end like an uninterrupted one."""
        if self._stopped:
            trainer.should_stop = True


def attach(trainer: Trainer, folder: Path) -> None:
    """Add the run's checkpoint to a trainer; checkpoints of the user that name no folder go beside it."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [each for each in callbacks if not isinstance(each, LastCheckpoint)]
    for each in callbacks:
        if isinstance(each, ModelCheckpoint) and each.dirpath is None:
            each.dirpath = str((folder / "checkpoints").resolve())  # as Lightning keeps it
    callbacks.append(LastCheckpoint(folder))  # after the others, so that it holds their states
