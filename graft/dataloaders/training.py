"""Training batches from one or more rounds; examples are memory-mapped."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from graft.core import seeding
from graft.core.datatypes import TrainingBatch
from graft.core.state import AnyState, apply, size
from graft.errors import GraftError


class RoundDataset(Dataset[Any]):
    """The examples of rounds, reshuffled in every pass, for all steps of a round.

    Args:
        parts: Training examples of each round, from the objective.
        length: Number of samples in all batches.
        seed: Seed of the order.
        purpose: Further words and numbers that seed the order.
        skip: Number of samples that were trained on before the interruption.
    """

    def __init__(
        self, parts: Sequence[TrainingBatch], length: int, seed: int, *purpose: "int | str", skip: int = 0
    ) -> None:
        self.parts, self.length, self.skip = parts, length, skip
        self.starts = torch.tensor([0, *(size(part.condition) for part in parts)]).cumsum(0)
        count = int(self.starts[-1])
        passes = math.ceil(length / count)
        orders = [torch.randperm(count, generator=seeding.make_generator(seed, *purpose, p)) for p in range(passes)]
        self.order = torch.cat(orders)[:length]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> TrainingBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> TrainingBatch:
        chosen = self.order[(torch.as_tensor(indices) + self.skip) % self.length]
        if len(self.parts) == 1:
            return self.parts[0].take(chosen)
        rows = [
            (chosen >= start) & (chosen < stop) for start, stop in zip(self.starts[:-1], self.starts[1:], strict=True)
        ]
        taken = [
            part.take(chosen[inside] - start)
            for part, inside, start in zip(self.parts, rows, self.starts[:-1], strict=True)
        ]
        first = taken[0]
        return TrainingBatch(
            _merged(rows, [part.state for part in taken]),
            _merged(rows, [part.condition for part in taken]),
            None if first.weight is None else _plain(rows, [p.weight for p in taken if p.weight is not None]),
            first.from_level,
            None if first.x0_target is None else _merged(rows, [p.x0_target for p in taken if p.x0_target is not None]),
        )


class ResumableDataLoader(DataLoader[Any]):
    """A loader that Lightning resumes within an epoch; the data set skips the earlier samples."""

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state: the number of steps is enough to resume."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Ignore the state, which is empty."""


def local_batch_size(trainer: Trainer, batch_size: int) -> int:
    """Return the number of samples in a batch of this rank.

    Args:
        trainer: Trainer of the run.
        batch_size: Number of samples of an optimizer step, over all ranks and accumulated batches.

    Raises:
        GraftError: ``batch_size`` is not a multiple of the number of ranks times accumulated batches.
    """
    processes, accumulated = trainer.world_size, trainer.accumulate_grad_batches
    parts = processes * accumulated
    if batch_size % parts:
        raise GraftError(
            f"data.train_batch_size is {batch_size}; with {processes} ranks and {accumulated} accumulated batches it "
            f"must be a multiple of {parts}"
        )
    return batch_size // parts


def training_dataloader(
    parts: Sequence[TrainingBatch], trainer: Trainer, batch_size: int, steps: int, seed: int, completed_batches: int
) -> ResumableDataLoader:
    """Return the loader of the batches of this rank in an epoch.

    Args:
        parts: Training examples of each round.
        trainer: Trainer of the run.
        batch_size: Number of samples of an optimizer step, over all ranks.
        steps: Number of optimizer steps in the epoch.
        seed: Seed of the order.
        completed_batches: Number of batches that this rank finished before the epoch was interrupted.
    """
    mine = local_batch_size(trainer, batch_size)
    skip = completed_batches * mine * trainer.world_size
    data = RoundDataset(parts, steps * batch_size, seed, "order", trainer.current_epoch, skip=skip)
    # the sampler of Lightning would shuffle a data set that is shuffled already
    order: DistributedSampler[Any] = DistributedSampler(data, trainer.world_size, trainer.global_rank, shuffle=False)
    return ResumableDataLoader(data, mine, sampler=order, collate_fn=identity_collate)


def identity_collate(batch: Any) -> Any:
    """Return the batch unchanged: the data set has collated it."""
    return batch


def _merged(rows: Sequence[Tensor], parts: Sequence[AnyState]) -> AnyState:
    return apply(lambda *fields: _plain(rows, fields), parts[0], *parts[1:])


def _plain(rows: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    out = parts[0].new_empty((len(rows[0]), *parts[0].shape[1:]))
    for inside, part in zip(rows, parts, strict=True):
        out[inside] = part
    return out
