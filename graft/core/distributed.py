"""Helpers for several ranks: launch them, divide work, gather results and share errors.

A run does not depend on the number of ranks. Draws come in chunks with their own generators, acceptance sees the draws
of all ranks, and training noise is drawn for the whole batch before each rank takes its rows
(`graft.core.seeding.shard_generator`).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torchmetrics import Metric
from typing_extensions import override

from graft.core import limits
from graft.errors import GraftError

T = TypeVar("T")


def launch(trainer: Trainer, module: LightningModule) -> None:
    """Start and connect the other ranks, earlier than Lightning does.

    The ranks must agree on the folder of the run before they use it.

    Raises:
        GraftError: The strategy cannot be used, or a setting of the trainer is out of range.
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
            f"the strategy {type(trainer.strategy).__name__} starts its processes from within this one, which loses "
            "their results: use trainer.strategy=ddp"
        )
    if launcher is not None:
        try:
            launcher.cluster_environment.validate_settings(trainer.num_devices, trainer.num_nodes)
        except ValueError as error:
            raise GraftError(
                f"trainer.devices is {trainer.num_devices} and trainer.num_nodes is {trainer.num_nodes}; they must be "
                f"the processes of a node and the nodes that torchrun or Slurm started. Set both. ({error})"
            ) from None
        launcher.launch(trainer.strategy.setup_environment)
    else:
        trainer.strategy.setup_environment()


class _Within(LightningDataModule):
    """Calls a function when Lightning asks for the data to predict, because the strategy is set up by then."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self.function, self.result = function, None

    @override
    def predict_dataloader(self) -> "list[Any]":
        self.result = self.function()
        return []


def run_within(trainer: Trainer, module: LightningModule, function: Callable[[], T]) -> T:
    """Return the result of a function that is called with the trainer's strategy set up, as for a round.

    Args:
        trainer: Trainer of the run.
        module: Module of the run.
        function: Function without arguments. All ranks call it.
    """
    within = _Within(function)
    trainer.predict(module, within, return_predictions=False)
    result: Any = within.result
    return result  # type: ignore[no-any-return]


def on_rank_zero(trainer: Trainer, function: Callable[[], T]) -> T:
    """Return, on every rank, the result of a call on rank 0.

    Raises:
        GraftError: The call raised it on rank 0; every rank raises it.
    """
    if trainer.world_size == 1:
        return function()
    answer: tuple[Any, str | None] = None, None
    if trainer.is_global_zero:
        try:
            answer = function(), None
        except GraftError as error:
            answer = None, str(error)
    value, wrong = trainer.strategy.broadcast(answer)
    if wrong is not None:
        raise GraftError(wrong)
    result: T = value
    return result


def gather_dict(trainer: Any, mine: dict[int, T]) -> dict[int, T]:
    """Return the entries of all ranks, sorted by key; the lowest rank wins for a common key."""
    merged: dict[int, T] = {}
    for part in gathered(trainer, mine):
        merged = part | merged
    return dict(sorted(merged.items()))


def gathered(trainer: Any, mine: T) -> list[T]:
    """Return the values of all ranks in order. Every rank must call it."""
    if trainer is None or trainer.world_size == 1:
        return [mine]
    parts: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(parts, mine)
    return parts


@contextmanager
def shared_errors(trainer: Any, kind: type[GraftError] = GraftError) -> Iterator[None]:
    """Raise an error of one rank on every rank, so that no rank waits for a rank that has ended.

    Every rank must enter the block equally often, and no rank may wait for another within it.

    Args:
        trainer: Trainer of the ranks; None for one rank.
        kind: Class of the shared errors. With a sharded network, such errors may come only after its calls.
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
    """Raise GraftError on every rank if the ranks have different values.

    Args:
        trainer: Trainer of the ranks.
        what: Phrase for the value, for the message.
        mine: Value of this rank.
    """
    parts = gathered(trainer, mine)
    if any(part != parts[0] for part in parts):
        raise GraftError(f"the ranks do not agree on {what}: use a folder that all ranks share")


def is_rank_zero() -> bool:
    """Return True on rank 0, and without distributed ranks."""
    return not (torch.distributed.is_available() and torch.distributed.is_initialized()) or (
        torch.distributed.get_rank() == 0
    )


def rank_zero_print(text: str) -> None:
    """Print a line on rank 0. Loggers are not used, because graft sets them to warnings."""
    if is_rank_zero():
        print(f"graft: {text}", flush=True)


def round_robin(trainer: Trainer, work: Sequence[int]) -> Iterator[tuple[int, bool]]:
    """Yield (item, True if it belongs to this rank), equally often on every rank.

    All ranks call a sharded network together. A rank without work therefore repeats the last item and discards the
    result.

    Args:
        trainer: Trainer of the ranks.
        work: Items that call the network.
    """
    rank, world = trainer.global_rank, trainer.world_size
    for start in range(0, len(work), world):
        place = start + rank
        yield work[min(place, len(work) - 1)], place < len(work)


def disable_sync(metric: Metric) -> Metric:
    """Return the metric without its own synchronisation: it receives the samples of all ranks."""
    metric.distributed_available_fn = _no
    return metric


def _no() -> bool:
    return False
