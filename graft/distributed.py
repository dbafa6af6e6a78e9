"""Several processes as one: who draws what, and what all of them know.

What a run depends on is the same whatever the number of processes: draws come in chunks with generators of their own,
acceptance sees everyone's, and training noise is drawn for the whole batch, of which each takes its rows
(`graft.seeding.share`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torchmetrics import Metric

from graft import limits
from graft.errors import GraftError

T = TypeVar("T")


def launch(trainer: Trainer, module: LightningModule) -> None:
    """Start the other processes and have them know each other, before Lightning would.

    A run's folder must be agreed on before anything is done in it.

    Raises:
        GraftError: The strategy starts processes that cannot share a run, or shards in a way that is not known; or a
            number of the trainer's is out of its range.
    """
    limits.check_trainer(trainer)
    if isinstance(trainer.strategy, FSDPStrategy):
        raise GraftError("FSDP's first generation flattens the parameters that graft averages: use trainer/fsdp.yaml")
    if trainer.world_size == 1:
        return
    trainer.strategy.connect(module)
    launcher = trainer.strategy.launcher
    if launcher is not None and not isinstance(launcher, _SubprocessScriptLauncher):
        raise GraftError(
            f"the strategy {type(trainer.strategy).__name__} starts its processes from within this one, and what they "
            "find is lost: use trainer.strategy=ddp"
        )
    if launcher is not None:
        launcher.launch(trainer.strategy.setup_environment)
    else:
        trainer.strategy.setup_environment()


def on_rank_zero(trainer: Trainer, function: Callable[[], T]) -> T:
    """What the first process's call says, on every process.

    Raises:
        GraftError: What it raised, everywhere.
    """
    if trainer.world_size == 1:
        return function()
    said: tuple[Any, str | None] = None, None
    if trainer.is_global_zero:
        try:
            said = function(), None
        except GraftError as error:
            said = None, str(error)
    value, wrong = trainer.strategy.broadcast(said)
    if wrong is not None:
        raise GraftError(wrong)
    result: T = value
    return result


def gather_dict(trainer: Any, mine: dict[int, T]) -> dict[int, T]:
    """All processes' entries, by key and in its order; one that several have is taken once."""
    if trainer is None or trainer.world_size == 1:
        return dict(sorted(mine.items()))
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, mine)
    merged: dict[int, T] = {}
    for part in parts:
        merged = part | merged
    return dict(sorted(merged.items()))


def gathered(trainer: Any, mine: T) -> list[T]:
    """Return the values of all ranks, in order; every rank calls it."""
    if trainer is None or trainer.world_size == 1:
        return [mine]
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, mine)
    return parts


@contextmanager
def shared_errors(trainer: Any, kind: type[GraftError] = GraftError) -> Iterator[None]:
    """Raise an error of one rank on every rank, so that none waits for a rank that has ended.

    Every rank enters the block as often as the others, and no rank waits for another within it.

    Args:
        trainer: Trainer of the ranks; None for one process.
        kind: Kind of error that is shared; of a sharded network only one that is raised after the network's calls.

    Raises:
        GraftError: The error of the first rank that met one.
    """
    error: GraftError | None = None
    try:
        yield
    except kind as met:
        error = met
    first = next((each for each in gathered(trainer, error and str(error)) if each is not None), None)
    if error is not None:
        raise error
    if first is not None:
        raise kind(first)


def assert_same(trainer: Trainer, what: str, mine: Any) -> None:
    """Check that all processes are about to do the same.

    Args:
        trainer: Of the processes.
        what: In words, for the message.
        mine: What this process is about to do.

    Raises:
        GraftError: They are not, on every process.
    """
    if trainer.world_size == 1:
        return
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, mine)
    if any(part != parts[0] for part in parts):
        raise GraftError(f"the processes do not agree on {what}: they need one folder that all of them see")


def is_rank_zero() -> bool:
    """Of several processes, or alone."""
    return not (torch.distributed.is_available() and torch.distributed.is_initialized()) or (
        torch.distributed.get_rank() == 0
    )


def rank_zero_print(text: str) -> None:
    """Print a line of graft's, once of several processes: what Lightning's own logger says is turned down."""
    if is_rank_zero():
        print(f"graft: {text}", flush=True)


def round_robin(trainer: Trainer, work: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """(piece, whether it is this process's) of work that calls the network: as many turns for every process.

    Sharded networks are called by all processes together, so who has nothing left repeats the last piece and throws it
    away.
    """
    rank, world = trainer.global_rank, trainer.world_size
    for start in range(0, len(work), world):
        place = start + rank
        yield work[min(place, len(work) - 1)], place < len(work)


def disable_sync(metric: Metric) -> Metric:
    """The metric, which is given everyone's objects, so that nothing is to be gathered when it computes."""
    metric.distributed_available_fn = _no
    return metric


def _no() -> bool:
    return False
