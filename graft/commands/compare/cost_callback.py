"""The cost of training: optimizer steps, network evaluations and seconds, for any objective."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer
from typing_extensions import override

from graft.errors import GraftError
from graft.io.json_files import parse_json, write_json
from graft.runs import stopwatch

NAME = "training.json"


class TrainingCostCallback(Callback):
    """Counts the network evaluations of training steps.

    Each sample counts once for each network, frozen networks included. The count is over all ranks and continues on
    resume. The seconds are those of all sessions of the run.

    Args:
        folder: Folder of the run; its ``training.json`` gets the cost up to the end of each round.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.evaluations = 0
        self.rounds: list[dict[str, Any]] = []
        self._active, self._handles = False, list[Any]()

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"evaluations": self.evaluations, "rounds": self.rounds}

    @override
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.evaluations, self.rounds = state["evaluations"], state["rounds"]

    @override
    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._handles = [network.register_forward_hook(self._count) for network in pl_module.policy.networks()]

    def _count(self, network: Any, arguments: tuple[Any, ...], output: Any) -> None:
        if self._active:
            self.evaluations += len(arguments[1])  # the argument is the times, one for each sample

    @override
    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Start to count: the network calls of rollouts come between batches and do not count."""
        self._active = True

    @override
    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._active = False

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.rounds.append(
            {
                "optimizer_steps": trainer.global_step,
                "network_evaluations": self.evaluations * trainer.world_size,
                "seconds": round(stopwatch.find_stopwatch(trainer).seconds, 3),
            }
        )

    @override
    def on_fit_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Write ``training.json``, before ``summary.json`` marks the run as finished."""
        for handle in self._handles:
            handle.remove()
        if trainer.is_global_zero and not trainer.interrupted:
            write_json(self.folder / NAME, self.rounds)


def read_training_costs(run: Path) -> list[dict[str, Any]]:
    """Return the cost of a finished run up to the end of each round.

    Raises:
        GraftError: The file is missing or damaged.
    """
    path = run / NAME
    try:
        rounds: list[dict[str, Any]] = parse_json(path.read_text(encoding="utf-8-sig"))
        return [{key: each[key] for key in ("optimizer_steps", "network_evaluations", "seconds")} for each in rounds]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GraftError(
            f"{path} is missing or damaged ({error}). Remove {run}; the run is then trained again."
        ) from None
