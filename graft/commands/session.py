"""Parts of all commands that train: the trainer, the folder of the run, its log, and the fit of Lightning."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, RichProgressBar, TQDMProgressBar

from graft import runs
from graft.commands.samples import render_samples, sample_table
from graft.core import distributed, threads
from graft.core.progress import disable_bar_in_log_files
from graft.errors import GraftError
from graft.io.atomic import write_text
from graft.module import GraftModule
from graft.policy.weights import keep_reference
from graft.runs import last_checkpoint, loggers
from graft.runs.checkpoint import ChecksummedCheckpointIO, read_checkpoint
from graft.runs.interruption import Interruption
from graft.runs.lock import lock_folder, release_locks_after
from graft.runs.logger import ResumableCSVLogger
from graft.runs.progress import StepLinesCallback
from graft.runs.python_runs import checkpoint_to_resume, config_of_run
from graft.runs.stopwatch import Stopwatch

TRAINER_DEFAULTS: dict[str, Any] = {
    "logger": False,  # `attach_logging` adds metrics.csv to the loggers of the user
    "enable_checkpointing": False,  # `attach_logging` adds last.ckpt to the checkpoints of the user
    "max_epochs": 1,  # the default of Lightning would be 1000 rounds
    "reload_dataloaders_every_n_epochs": 1,  # a round is an epoch
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "log_every_n_steps": 10,
    "gradient_clip_val": 1.0,
}
"""Default trainer settings of all commands."""


def trainer(rounds: int = 1, **settings: Any) -> Trainer:
    """Return a Lightning Trainer with the default settings of graft.

    Args:
        rounds: Number of rounds.
        settings: Settings of the Trainer, which override the defaults.
    """
    own = {"enable_checkpointing": saves(settings.get("callbacks"))}
    given = {"max_epochs": rounds, **settings}
    made = Trainer(**{**TRAINER_DEFAULTS, **own, **given})
    made.__dict__["_given"] = given  # the configuration of the run needs the settings
    return made


def saves(callbacks: "Sequence[Callback] | Callback | None") -> bool:
    """Return True if a callback of the user saves checkpoints, which Lightning must know."""
    listed = [callbacks] if isinstance(callbacks, Callback) else callbacks or []
    return any(isinstance(each, Checkpoint) for each in listed)


@dataclass
class OpenRun:
    """A run that a command works on.

    Attributes:
        folder: Folder of the run.
        config: Configuration as YAML.
        checkpoint: Checkpoint to resume from, or None.
        clock: Stopwatch of the run.
    """

    folder: Path
    config: str
    checkpoint: "Path | None"
    clock: Stopwatch


@contextmanager
def open_run(
    module: GraftModule,
    data: LightningDataModule,
    run_dir: "str | Path",
    trainer: Trainer,
    config: str,
    checkpoint: "str | Path | None",
    overwrite: bool,
) -> Iterator[OpenRun]:
    """Open the folder of a run and attach its log; mark the run as finished after the block.

    Args:
        module: The model.
        data: The data module.
        run_dir: Folder of the run.
        trainer: Trainer of the run.
        config: Configuration as YAML; if empty, it is written from the objects.
        checkpoint: Checkpoint to resume from: a file, or ``last`` for the checkpoint of the run.
        overwrite: True to remove an earlier run in the folder.

    Raises:
        GraftError: The folder holds a run, and the call neither resumes nor overwrites it.
    """
    with runs.without_config_of_failed_start(Path(run_dir)), release_locks_after(), Stopwatch() as clock:
        distributed.launch(trainer, module)
        folder = prepare_run_dir(trainer, run_dir)
        resumed = distributed.on_rank_zero(trainer, lambda: checkpoint_to_resume(folder, checkpoint, overwrite))
        clock.keep(folder, trainer)
        keep_reference(module.policy, folder)
        config = config or distributed.on_rank_zero(
            trainer, lambda: config_of_run(module, data, trainer, folder, checkpoint is not None)
        )
        attach_logging(trainer, folder, config, resumed)
        yield OpenRun(folder, config, resumed, clock)
        clock.finish()
        trainer.strategy.barrier()


def prepare_run_dir(trainer: Trainer, run_dir: "str | Path") -> Path:
    """Return the folder of a run after making and locking it.

    Args:
        trainer: Trainer of the run. All ranks must call the function.
        run_dir: Path of the folder.

    Raises:
        GraftError: The folder cannot be made or locked, holds a link, or is not visible to all ranks.
    """
    folder = Path(run_dir)

    def make() -> str:
        runs.make_run_dir(folder)
        lock_folder(folder)  # the lock comes first, so that files of another process are not touched
        runs.refuse_links(folder)
        runs.remove_temporary(folder)
        return str(folder)

    distributed.on_rank_zero(trainer, make)
    if not trainer.strategy.reduce_boolean_decision(folder.is_dir(), all=True):
        raise GraftError(
            f"--run_dir is {folder}, which is not visible to all {trainer.world_size} ranks: use a folder on a file "
            "system that every node shares"
        )
    return folder


def attach_logging(trainer: Trainer, folder: Path, config: str, checkpoint: "Path | None") -> None:
    """Add ``metrics.csv`` and ``last.ckpt`` of a run to a trainer; write ``config.yaml``.

    Loggers and checkpoint callbacks of the user stay.

    Args:
        trainer: Trainer of the run.
        folder: Folder of the run.
        config: Configuration as YAML.
        checkpoint: Checkpoint to resume from, or None.
    """
    step = distributed.on_rank_zero(trainer, lambda: read_checkpoint(checkpoint)["global_step"]) if checkpoint else 0
    loggers.attach_loggers(
        trainer, ResumableCSVLogger(folder / "metrics.csv", step), config, render_samples, sample_table
    )
    last_checkpoint.attach_last_checkpoint(trainer, folder)
    bar = trainer.progress_bar_callback
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [each for each in callbacks if not isinstance(each, StepLinesCallback)]
    if disable_bar_in_log_files(trainer):
        callbacks.append(StepLinesCallback())
    elif isinstance(bar, TQDMProgressBar | RichProgressBar) and bar.refresh_rate == 1:
        bar._refresh_rate = 10  # a refresh at every step takes milliseconds
    if config and trainer.is_global_zero:
        write_text(folder / "config.yaml", config)


def train(
    module: GraftModule, data: LightningDataModule, trainer: Trainer, folder: Path, checkpoint: "Path | None"
) -> None:
    """Call ``Trainer.fit`` so that a signal ends it at a point to resume from.

    Args:
        module: The model.
        data: The data module.
        trainer: The trainer.
        folder: Folder of the run.
        checkpoint: Checkpoint to resume from, or None.

    Raises:
        Interrupted: A signal came.
        GraftError: The checkpoint is of another network, or EarlyStopping monitors an unknown metric.
    """
    if notice := threads.notice():
        distributed.rank_zero_print(notice)
    interruption = Interruption(folder)
    trainer.callbacks.insert(0, interruption)  # type: ignore[attr-defined]
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = ChecksummedCheckpointIO()
    with interruption.guard():
        try:
            trainer.fit(module, data, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)
        except RuntimeError as error:
            if str(error).startswith("Early stopping conditioned"):
                raise GraftError(f"trainer.callbacks: {error}") from None
            if "loading state_dict" not in str(error):
                raise
            raise GraftError(
                f"{checkpoint} does not fit the network ({' '.join(str(error).split())[:200]}): it is another run's"
            ) from None
