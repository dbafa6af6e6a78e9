"""What training takes: optimizer steps, network evaluations and seconds, whatever the objective does with them."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from graft import files, plain_json
from graft.errors import GraftError
from graft.runs import stopwatch

NAME = "training.json"


class TrainingCostCallback(Callback):
    """Counts the samples that the networks are asked about in training steps, the frozen ones' and old ones' included.

    Of all processes together. It goes on with the checkpoint. Seconds are those of all sessions of the run.

    Args:
        folder: Of the run; ``training.json`` in it has what stood after each round.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.evaluations = 0
        self.rounds: list[dict[str, Any]] = []
        self._active, self._handles = False, list[Any]()

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"evaluations": self.evaluations, "rounds": self.rounds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.evaluations, self.rounds = state["evaluations"], state["rounds"]

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Listen to the networks."""
        networks = [pl_module.backbone] + ([pl_module.reference] if pl_module.reference is not None else [])
        self._handles = [network.register_forward_hook(self._heard) for network in networks]

    def _heard(self, network: Any, arguments: tuple[Any, ...], output: Any) -> None:
        if self._active:
            self.evaluations += len(arguments[1])  # the times, one for each sample

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Rollouts come between batches."""
        self._active = True

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """See above."""
        self._active = False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """A round is done."""
        self.rounds.append(
            {
                "optimizer_steps": trainer.global_step,
                "network_evaluations": self.evaluations * trainer.world_size,
                "seconds": round(stopwatch.of(trainer).seconds, 3),
            }
        )

    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write it, before the run is finished."""
        for handle in self._handles:
            handle.remove()
        if trainer.is_global_zero and not trainer.interrupted:
            files.write_json(self.folder / NAME, self.rounds)


def read(run: Path) -> list[dict[str, Any]]:
    """What stood after each round of a finished run.

    Raises:
        GraftError: It is missing or damaged.
    """
    path = run / NAME
    try:
        rounds: list[dict[str, Any]] = plain_json.parse(path.read_text(encoding="utf-8-sig"))
        return [{key: each[key] for key in ("optimizer_steps", "network_evaluations", "seconds")} for each in rounds]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GraftError(f"{path} is missing or damaged ({error}): remove {run}, and it is trained again") from None
