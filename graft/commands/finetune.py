"""Fine-tune a model: rounds, then the comparison with the reference."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from graft.commands.levels import results
from graft.commands.levels.choose import ChooseLevel
from graft.commands.run_report import write_report
from graft.commands.samples import evaluate_both, write_samples
from graft.commands.session import OpenRun, open_run, train
from graft.commands.summary import monitor_summary, run_summary
from graft.core import limits
from graft.errors import GraftError
from graft.evaluation.alarms import AlarmCallback
from graft.io.json_files import nulls_for_not_finite, write_json
from graft.module import GraftModule
from graft.rollouts import Rollouts
from graft.runs.progress import RoundProgressCallback


def fit(
    module: GraftModule,
    data: Rollouts,
    run_dir: "str | Path",
    trainer: Trainer,
    config: str = "",
    command: str = "",
    checkpoint: "str | Path | None" = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Fine-tune a model in rounds, compare it with the reference, and return the summary.

    Args:
        module: The model with the weights of its reference.
        data: The rollouts.
        run_dir: Folder of the run.
        trainer: A trainer from `trainer`, or another one with the settings of `TRAINER_DEFAULTS`.
        config: Configuration as YAML, stored with the run and the weights; if empty, it is written from the objects.
        command: Command that repeats the run, for the report.
        checkpoint: Checkpoint to resume from: a file, or ``last`` for the checkpoint of the run.
        overwrite: True to remove an earlier run in the folder.

    Returns:
        The content of ``summary.json``.

    Raises:
        GraftError: The folder holds a run, and the call neither resumes nor overwrites it.
    """
    if module.policy.reference_file is None:
        raise GraftError("model.weights is not set; fine-tuning needs the weights of a reference: give model.weights")
    limits.check("trainer.max_epochs", trainer.max_epochs, 1)
    with open_run(module, data, run_dir, trainer, config, checkpoint, overwrite) as run:
        return _fit(module, data, trainer, run, command)


def _fit(module: GraftModule, data: Rollouts, trainer: Trainer, run: OpenRun, command: str) -> dict[str, Any]:
    folder = data.run_dir = run.folder
    watch = (
        AlarmCallback(data.evaluation.alarms, data.held_out_reward, folder)
        if data.evaluation.alarms is not None and data.evaluation.validation_draws
        else None
    )
    if watch is not None:
        trainer.callbacks.insert(0, watch)  # type: ignore[attr-defined]
    trainer.callbacks.insert(0, ChooseLevel())  # type: ignore[attr-defined]
    trainer.callbacks.append(RoundProgressCallback())  # type: ignore[attr-defined]
    if data.storage.save_round_weights:
        trainer.callbacks.insert(0, RoundWeightsCallback(run.config))  # type: ignore[attr-defined]
    train(module, data, trainer, folder, run.checkpoint)
    if not data.summaries:
        raise GraftError("no round was done: raise trainer.max_epochs, trainer.max_steps or trainer.max_time")
    module.save_weights(folder / "tuned.safetensors", run.config)
    module.export(folder)
    evaluate_both(module, data, trainer)
    chosen = results.Analysis.read(folder) if module.level_setting == "auto" else None
    summary: dict[str, Any] = nulls_for_not_finite(run_summary(module, data, run.clock.seconds, chosen))
    summary |= monitor_summary(watch)
    if trainer.is_global_zero:
        write_samples(module, folder)
        write_report(module, data, trainer, folder, summary, command)
        write_json(folder / "summary.json", summary)  # written last, because it marks the run as finished
    return summary


class RoundWeightsCallback(Callback):
    """Saves the tuned weights of every round, which equal those of a run that ends there.

    Args:
        config: Configuration as YAML, stored with the weights.
    """

    def __init__(self, config: str) -> None:
        self.config = config

    @override
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the weights before the checkpoint that marks the round as finished."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, GraftModule)
        path = data.rounds.round_dir(trainer.current_epoch) / "tuned.safetensors"
        pl_module.save_weights(path, self.config)
