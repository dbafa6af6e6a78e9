"""Lightning loggers of the user: they receive scalars, the configuration, pictures and tables of samples."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import DummyLogger, Logger
from lightning.pytorch.trainer.states import TrainerFn
from numpy.typing import NDArray
from typing_extensions import override

from graft.core import distributed
from graft.errors import GraftError
from graft.io import yaml_files
from graft.io.atomic import write_bytes
from graft.io.csv_files import write_csv
from graft.io.markdown import markdown_table
from graft.runs.folders import LOCATION_KEYS
from graft.runs.logger import ResumableCSVLogger

Picture = Callable[[Any, Any], "bytes | None"]
"""A function of a module and a `graft.evaluation.SampleEvaluator` to a PNG, or None if the domain renders none."""
Table = Callable[[Any, Any], tuple[list[str], list[list[Any]]]]
"""A function of a module and a `graft.evaluation.SampleEvaluator` to (names of the columns, rows)."""


def attach_loggers(trainer: Trainer, metrics: ResumableCSVLogger, config: str, picture: Picture, table: Table) -> None:
    """Add the run's ``metrics.csv`` to the loggers of a trainer.

    The loggers of the user stay first, so that ``trainer.logger`` is one of them. On ranks other than 0 they are
    replaced by dummies, because a logger may lack the decorator `rank_zero_only`.

    Args:
        trainer: Trainer of the run.
        metrics: Logger of ``metrics.csv``.
        config: Configuration of the run as YAML.
        picture: Function that renders samples.
        table: Function that lists samples with their rewards.

    Raises:
        GraftError: A logger of the user would also write ``metrics.csv`` into the folder of the run.
    """
    theirs = [each for each in trainer.loggers if not isinstance(each, ResumableCSVLogger)]
    folder = metrics.path.parent
    for each in theirs:
        if isinstance(each, CSVLogger) and Path(each.log_dir).resolve() == folder.resolve():
            raise GraftError(
                f"trainer.logger writes to {folder}, where the run has its own metrics.csv: give the logger another "
                "save_dir, name or version"
            )
    if not trainer.is_global_zero:
        theirs = [DummyLogger() for _ in theirs]
    trainer.loggers = [*theirs, metrics]
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [each for each in callbacks if not isinstance(each, RunLog)]
    if theirs:
        callbacks.append(RunLog(config, picture, table))


def metrics_file(trainer: Trainer) -> ResumableCSVLogger:
    """Return the logger of ``metrics.csv`` that `attach_loggers` added to a trainer."""
    return next(each for each in trainer.loggers if isinstance(each, ResumableCSVLogger))


def log_metrics(trainer: Any, values: Mapping[str, float], step: int) -> None:
    """Log scalars outside the hooks of Lightning, on rank 0 only."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics(dict(values), step)


class RunLog(Callback):
    """Logs the configuration, pictures and tables of samples to the loggers of the user.

    Samples are logged after each validation and after the comparison at the end.

    Args:
        config: Configuration of the run as YAML.
        picture: Function that renders samples.
        table: Function that lists samples with their rewards.
    """

    def __init__(self, config: str, picture: Picture, table: Table) -> None:
        self.config, self.picture, self.table = config, picture, table
        self._failed: set[str] = set()

    @override
    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            settings = yaml_files.parse_yaml(self.config, "the configuration")
            for logger in _theirs(trainer):
                logger.log_hyperparams({k: v for k, v in settings.items() if k not in LOCATION_KEYS})

    @override
    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.samples(trainer, pl_module, "validation/samples")

    @override
    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.samples(trainer, pl_module, "test/{}/samples")

    def samples(self, trainer: Trainer, module: Any, name: str) -> None:
        """Log a picture and a table of the samples of each evaluator of the module.

        The first error of pictures and of tables is printed; these errors do not end the run.

        Args:
            trainer: Trainer of the run.
            module: Module with ``evaluators``.
            name: Name of the picture in the loggers; ``{}`` stands for the name of the evaluator.
        """
        takers = list(_theirs(trainer)) if trainer.is_global_zero else []
        for weights, evaluator in module.evaluators.items() if takers else ():
            if not evaluator.items:
                continue
            key, step = name.format(weights), trainer.global_step
            with self._forgiven("pictures"):
                takes = [each for each in takers if takes_pictures(each)]
                png = self.picture(module, evaluator) if takes else None
                if png is not None:
                    for logger in takes:
                        log_picture(logger, key, png, step)
            with self._forgiven("tables"):
                takes = [each for each in takers if takes_tables(each)]
                head, rows = self.table(module, evaluator) if takes else ([], [])
                for logger in takes:
                    log_table(logger, f"{key}_table", head, rows, step)

    @contextmanager
    def _forgiven(self, kind: str) -> Iterator[None]:
        """Print the first error of one kind of output instead of raising it."""
        try:
            yield
        except Exception as error:
            if kind not in self._failed:
                distributed.rank_zero_print(
                    f"no {kind} for the loggers ({type(error).__name__}: {error}); the run continues"
                )
            self._failed.add(kind)


def find_run_log(trainer: Any) -> "RunLog | None":
    """Return the `RunLog` of a trainer, or None."""
    return next((each for each in trainer.callbacks if isinstance(each, RunLog)), None)


def takes_pictures(logger: Logger) -> bool:
    """Return True if `log_picture` supports the logger."""
    return isinstance(logger, CSVLogger) or _has(logger, "log_image", "add_image")


def takes_tables(logger: Logger) -> bool:
    """Return True if `log_table` supports the logger."""
    return isinstance(logger, CSVLogger) or _has(logger, "log_table", "add_text")


def log_picture(logger: Any, name: str, png: bytes, step: int) -> None:
    """Log a picture to a logger that `takes_pictures`.

    A CSVLogger gets the file ``NAME/STEP.png`` in its folder, a WandbLogger a call of ``log_image``, and TensorBoard a
    call of ``add_image``.

    Args:
        logger: The logger.
        name: Name of the picture.
        png: The picture as a PNG.
        step: Number of optimizer steps so far.
    """
    if isinstance(logger, CSVLogger):
        write_bytes(Path(logger.log_dir, name, f"{step:06}.png"), png)
    elif callable(getattr(logger, "log_image", None)):
        logger.log_image(key=name, images=[pixels(png)], step=step)
    else:
        logger.experiment.add_image(name, pixels(png), global_step=step, dataformats="HWC")


def log_table(logger: Any, name: str, head: list[str], rows: list[list[Any]], step: int) -> None:
    """Log a table to a logger that `takes_tables`.

    A CSVLogger gets the file ``NAME/STEP.csv`` in its folder, a WandbLogger a call of ``log_table``, and TensorBoard a
    text.

    Args:
        logger: The logger.
        name: Name of the table.
        head: Names of the columns.
        rows: Cells of each row.
        step: Number of optimizer steps so far.
    """
    if isinstance(logger, CSVLogger):
        write_csv(Path(logger.log_dir, name, f"{step:06}.csv"), head, rows)
    elif callable(getattr(logger, "log_table", None)):
        logger.log_table(key=name, columns=head, data=rows, step=step)
    else:
        logger.experiment.add_text(name, markdown_table(head, rows), global_step=step)


def _has(logger: Any, own: str, of_experiment: str) -> bool:
    """Return True if a logger has one method, or its experiment the other."""
    if callable(getattr(logger, own, None)):
        return True
    return callable(getattr(getattr(logger, "experiment", None), of_experiment, None))


def pixels(png: bytes) -> NDArray[np.uint8]:
    """Return the (H, W, 3) pixels of a PNG; transparent pixels become white."""
    image = np.atleast_3d(matplotlib.image.imread(io.BytesIO(png), format="png"))
    colour, alpha = (image[..., :-1], image[..., -1:]) if image.shape[-1] in (2, 4) else (image, np.float32(1))
    blended = np.broadcast_to(colour * alpha + (1 - alpha), (*image.shape[:2], 3))
    return (blended * 255).round().astype(np.uint8)


def _theirs(trainer: Trainer) -> Iterator[Logger]:
    return (each for each in trainer.loggers if not isinstance(each, ResumableCSVLogger))
