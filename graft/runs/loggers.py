"""The user's Lightning loggers: they get what ``metrics.csv`` gets, the configuration, and pictures of samples."""

import inspect
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

from graft import distributed, plain_yaml
from graft.errors import GraftError
from graft.runs.folders import LOCATION_KEYS
from graft.runs.logger import ResumableCSVLogger

Picture = Callable[[Any, Any], "bytes | None"]
"""From a module and a judge of samples to a PNG of the samples; None if the domain draws nothing."""


def attach(trainer: Trainer, metrics: ResumableCSVLogger, config: str, picture: Picture) -> None:
    """Add the run's ``metrics.csv`` to the loggers of a trainer.

    The user's loggers stay first, so that ``trainer.logger`` is the user's. On ranks other than 0 they do nothing,
    whether or not their methods are decorated with `rank_zero_only`.

    Args:
        trainer: Trainer of the run.
        metrics: Logger of ``metrics.csv``.
        config: Configuration of the run as YAML; empty for a run from Python.
        picture: Draws samples.

    Raises:
        GraftError: A logger of the user would write ``metrics.csv`` into the run's folder, too.
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
    """Return the logger of ``metrics.csv`` of a trainer that `attach` was called for."""
    return next(each for each in trainer.loggers if isinstance(each, ResumableCSVLogger))


def log_metrics(trainer: Any, values: Mapping[str, float], step: int) -> None:
    """Log scalars from outside Lightning's hooks; rank 0 alone writes."""
    if trainer.is_global_zero:
        for logger in trainer.loggers:
            logger.log_metrics(dict(values), step)


class RunLog(Callback):
    """Gives the user's loggers the configuration, and pictures of samples after each validation and at the end.

    Args:
        config: Configuration of the run as YAML; empty for a run from Python.
        picture: Draws samples.
    """

    def __init__(self, config: str, picture: Picture) -> None:
        self.config, self.picture = config, picture
        self._failed = False

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Log the configuration."""
        if stage == "fit" and trainer.is_global_zero:
            data = trainer.datamodule  # type: ignore[attr-defined]
            found = hyperparameters(self.config, trainer, pl_module, data)
            for logger in _theirs(trainer):
                logger.log_hyperparams(found)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Log pictures of the samples that validation has drawn."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.samples(trainer, pl_module, "validation/samples")

    def on_test_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Log pictures of the samples of the comparison at the end."""
        self.samples(trainer, pl_module, "test/{}/samples")

    def samples(self, trainer: Trainer, module: Any, name: str) -> None:
        """Log a picture of the samples of each of the module's judges.

        A picture that cannot be drawn or logged is reported once and does not end the run.

        Args:
            trainer: Trainer of the run.
            module: Module with ``judges``.
            name: Name of the picture in the loggers; ``{}`` stands for the judge's name.
        """
        takers = [each for each in _theirs(trainer) if takes_pictures(each)] if trainer.is_global_zero else []
        for judged, judge in module.evaluators.items() if takers else ():
            try:
                png = self.picture(module, judge) if judge.items else None
                if png is None:
                    continue
                for logger in takers:
                    log_picture(logger, name.format(judged), pixels(png), trainer.global_step)
            except Exception as error:
                if not self._failed:
                    distributed.rank_zero_print(
                        f"no pictures for the loggers ({type(error).__name__}: {error}); the run goes on"
                    )
                self._failed = True


def of(trainer: Any) -> "RunLog | None":
    """Return the trainer's `RunLog`, if it has one."""
    return next((each for each in trainer.callbacks if isinstance(each, RunLog)), None)


def takes_pictures(logger: Logger) -> bool:
    """Return whether `log_picture` can give the logger a picture."""
    if callable(getattr(logger, "log_image", None)):
        return True
    return callable(getattr(getattr(logger, "experiment", None), "add_image", None))


def log_picture(logger: Any, name: str, image: NDArray[np.uint8], step: int) -> None:
    """Log a picture, by the interface of Lightning's WandbLogger or by that of TensorBoard's SummaryWriter.

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
    """Return the (H, W, 3) pixels of a PNG; what is transparent is white."""
    image = np.atleast_3d(matplotlib.image.imread(io.BytesIO(png), format="png"))
    colour, alpha = (image[..., :-1], image[..., -1:]) if image.shape[-1] in (2, 4) else (image, np.float32(1))
    blended = np.broadcast_to(colour * alpha + (1 - alpha), (*image.shape[:2], 3))
    return (blended * 255).round().astype(np.uint8)


def hyperparameters(config: str, trainer: Trainer, module: Any, data: Any) -> dict[str, Any]:
    """Return the configuration of a run as nested plain values.

    Args:
        config: Configuration as YAML. If it is empty, the settings are read from the objects.
        trainer: Trainer of the run.
        module: Module of the run.
        data: Data module of the run.
    """
    if config:
        return {
            name: value
            for name, value in plain_yaml.load(config, "the configuration").items()
            if name not in LOCATION_KEYS
        }
    settings = {"max_epochs": trainer.max_epochs, "precision": trainer.precision}
    return {"model": _described(module), "data": _described(data), "trainer": settings}


def _described(value: Any) -> dict[str, Any]:
    """Return the class of an object and those of its constructor's arguments that it keeps under the same name."""
    kept: dict[str, Any] = {}
    for name in inspect.signature(type(value)).parameters:
        try:
            kept[name] = _plain(getattr(value, name))
        except (AttributeError, GraftError):  # not kept; or a level that is not chosen yet
            continue
    return {"class_path": _path(value), "init_args": kept}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    return _path(value)


def _path(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _theirs(trainer: Trainer) -> Iterator[Logger]:
    return (each for each in trainer.loggers if not isinstance(each, ResumableCSVLogger))
