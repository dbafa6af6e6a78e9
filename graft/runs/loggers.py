"""Lightning loggers of the user: they receive scalars, the configuration and pictures."""

import io
from collections.abc import Callable, Iterator, Mapping
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
from graft.runs.folders import LOCATION_KEYS
from graft.runs.logger import ResumableCSVLogger

Picture = Callable[[Any, Any], "bytes | None"]
"""A function of a module and a `graft.evaluation.SampleEvaluator` to a PNG, or None if the domain renders none."""


def attach(trainer: Trainer, metrics: ResumableCSVLogger, config: str, picture: Picture) -> None:
    """Add the run's ``metrics.csv`` to the loggers of a trainer.

    The loggers of the user stay first, so that ``trainer.logger`` is one of them. On ranks other than 0 they are
    replaced by dummies, because a logger may lack the decorator `rank_zero_only`.

    Args:
        trainer: Trainer of the run.
        metrics: Logger of ``metrics.csv``.
        config: Configuration of the run as YAML.
        picture: Function that renders samples.

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
        callbacks.append(RunLog(config, picture))


def metrics_file(trainer: Trainer) -> ResumableCSVLogger:
    """Return the logger of ``metrics.csv`` that `attach` added to a trainer."""
    return next(each for each in trainer.loggers if isinstance(each, ResumableCSVLogger))


def log_metrics(trainer: Any, values: Mapping[str, float], step: int) -> None:
    """Log scalars outside the hooks of Lightning, on rank 0 only."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics(dict(values), step)


class RunLog(Callback):
    """Logs the configuration and pictures of samples to the loggers of the user.

    Pictures are logged after each validation and after the comparison at the end.

    Args:
        config: Configuration of the run as YAML.
        picture: Function that renders samples.
    """

    def __init__(self, config: str, picture: Picture) -> None:
        self.config, self.picture = config, picture
        self._failed = False

    @override
    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            settings = yaml_files.load(self.config, "the configuration")
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
        """Log a picture of the samples of each evaluator of the module.

        The first error of a picture is printed; errors of pictures do not end the run.

        Args:
            trainer: Trainer of the run.
            module: Module with ``evaluators``.
            name: Name of the picture in the loggers; ``{}`` stands for the name of the evaluator.
        """
        takers = [each for each in _theirs(trainer) if takes_pictures(each)] if trainer.is_global_zero else []
        for weights, evaluator in module.evaluators.items() if takers else ():
            try:
                png = self.picture(module, evaluator) if evaluator.items else None
                if png is None:
                    continue
                for logger in takers:
                    log_picture(logger, name.format(weights), pixels(png), trainer.global_step)
            except Exception as error:
                if not self._failed:
                    distributed.rank_zero_print(
                        f"no pictures for the loggers ({type(error).__name__}: {error}); the run continues"
                    )
                self._failed = True


def of(trainer: Any) -> "RunLog | None":
    """Return the `RunLog` of a trainer, or None."""
    return next((each for each in trainer.callbacks if isinstance(each, RunLog)), None)


def takes_pictures(logger: Logger) -> bool:
    """Return True if `log_picture` supports the logger."""
    if callable(getattr(logger, "log_image", None)):
        return True
    return callable(getattr(getattr(logger, "experiment", None), "add_image", None))


def log_picture(logger: Any, name: str, image: NDArray[np.uint8], step: int) -> None:
    """Log a picture through ``log_image`` (WandbLogger) or ``add_image`` (TensorBoard).

    Args:
        logger: Logger with ``log_image(key=, images=, step=)``, or with an ``experiment`` that has ``add_image``.
        name: Name of the picture.
        image: (H, W, 3) pixels.
        step: Number of optimizer steps so far.
    """
    if callable(getattr(logger, "log_image", None)):
        logger.log_image(key=name, images=[image], step=step)
    else:
        logger.experiment.add_image(name, image, global_step=step, dataformats="HWC")


def pixels(png: bytes) -> NDArray[np.uint8]:
    """Return the (H, W, 3) pixels of a PNG; transparent pixels become white."""
    image = np.atleast_3d(matplotlib.image.imread(io.BytesIO(png), format="png"))
    colour, alpha = (image[..., :-1], image[..., -1:]) if image.shape[-1] in (2, 4) else (image, np.float32(1))
    blended = np.broadcast_to(colour * alpha + (1 - alpha), (*image.shape[:2], 3))
    return (blended * 255).round().astype(np.uint8)


def _theirs(trainer: Trainer) -> Iterator[Logger]:
    return (each for each in trainer.loggers if not isinstance(each, ResumableCSVLogger))
