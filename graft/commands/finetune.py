"""Fine-tune a model: rounds, then the comparison with the reference."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from typing_extensions import override

from graft import runs
from graft.commands.levels import results
from graft.commands.levels.choose import ChooseLevel
from graft.commands.run_report import write_report
from graft.commands.samples import evaluate_both, write_samples
from graft.commands.session import attach_logging, prepare_run_dir, train
from graft.commands.summary import monitor_summary, run_summary
from graft.core import distributed
from graft.errors import GraftError
from graft.evaluation.alarms import AlarmCallback
from graft.io.json_files import write_json
from graft.module import GraftModule
from graft.policy.weights import keep_reference
from graft.rollouts import Rollouts
from graft.runs.lock import holding
from graft.runs.progress import RoundProgressCallback
from graft.runs.python_runs import checkpoint_of, of_objects
from graft.runs.stopwatch import Stopwatch


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
    with runs.withdrawn(Path(run_dir)), holding(), Stopwatch() as clock:
        return _fit(clock, module, data, run_dir, trainer, config, command, checkpoint, overwrite)


def _fit(
    clock: Stopwatch,
    module: GraftModule,
    data: Rollouts,
    run_dir: "str | Path",
    trainer: Trainer,
    config: str,
    command: str,
    asked: "str | Path | None",
    overwrite: bool,
) -> dict[str, Any]:
    if module.policy.reference_file is None:
        raise GraftError("model.weights is not set; fine-tuning needs the weights of a reference: give model.weights")
    if trainer.max_epochs is not None and trainer.max_epochs < 1:
        raise GraftError(
            f"trainer.max_epochs is {trainer.max_epochs}; it must be at least 1, since a round is an epoch"
        )
    distributed.launch(trainer, module)
    folder = prepare_run_dir(trainer, run_dir)
    checkpoint = distributed.on_rank_zero(trainer, lambda: checkpoint_of(folder, asked, overwrite))
    clock.keep(folder, trainer)
    data.run_dir = folder
    keep_reference(module.policy, folder)
    config = config or distributed.on_rank_zero(
        trainer, lambda: of_objects(module, data, trainer, folder, asked is not None)
    )
    attach_logging(trainer, folder, config, checkpoint)
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
        trainer.callbacks.insert(0, RoundWeightsCallback(config))  # type: ignore[attr-defined]
    train(module, data, trainer, folder, checkpoint)
    if not data.accounts:
        raise GraftError("no round was done: raise trainer.max_epochs, trainer.max_steps or trainer.max_time")
    module.save_weights(folder / "tuned.safetensors", config)
    module.export(folder)
    evaluate_both(module, data, trainer)
    chosen = results.Analysis.read(folder) if module.level_setting == "auto" else None
    summary = run_summary(module, data, clock.seconds, chosen) | monitor_summary(watch)
    if trainer.is_global_zero:
        write_samples(module, folder)
        write_report(module, data, trainer, folder, summary, command)
        write_json(folder / "summary.json", summary)  # the summary comes last, because it marks the run as finished
    clock.finish()
    trainer.strategy.barrier()
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
