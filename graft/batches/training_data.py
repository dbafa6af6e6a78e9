"""What is served to the optimizer: examples of one or more rounds, which stay where they are until a batch is made."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from graft import seeding
from graft.batches.examples import TrainingBatch
from graft.errors import GraftError
from graft.state import State, apply, size


class RoundDataset(Dataset[Any]):
    """Rounds' examples, reshuffled in every pass, as many as the steps of a round need.

    Args:
        parts: What the objective made of each round.
        length: Samples served.
        seed: Of the order.
        purpose: Likewise.
        skip: Samples that were served before: the first one is the one after them.
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
        condition = _merged(rows, [part.condition for part in taken])
        assert isinstance(condition, dict)
        return TrainingBatch(
            _merged(rows, [part.state for part in taken]),
            condition,
            None if first.weight is None else _plain(rows, [p.weight for p in taken if p.weight is not None]),
            first.from_level,
            None if first.x0_target is None else _merged(rows, [p.x0_target for p in taken if p.x0_target is not None]),
        )


class ResumableDataLoader(DataLoader[Any]):
    """A loader whose data set knows where it goes on, which is what Lightning asks these methods for."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the number of steps says it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See above."""


def local_batch_size(trainer: Trainer, batch_size: int) -> int:
    """Samples of a step's batch that this process learns in each of the parts that the step is accumulated from.

    Raises:
        GraftError: They cannot be shared evenly.
    """
    processes, accumulated = trainer.world_size, trainer.accumulate_grad_batches
    parts = processes * accumulated
    if batch_size % parts:
        raise GraftError(
            f"data.train_batch_size is {batch_size}, which {processes} processes with {accumulated} parts each cannot "
            f"share evenly: take a multiple of {parts}"
        )
    return batch_size // parts


def training_dataloader(
    parts: Sequence[TrainingBatch], trainer: Trainer, batch_size: int, steps: int, seed: int, completed_batches: int
) -> ResumableDataLoader:
    """This process's part of an epoch's batches.

    Args:
        parts: What is learned from.
        trainer: Of the processes.
        batch_size: Samples of a step, of all processes together.
        steps: Of the epoch.
        seed: Of the order.
        completed_batches: Batches that this process learned before the epoch was interrupted.
    """
    mine = local_batch_size(trainer, batch_size)
    skip = completed_batches * mine * trainer.world_size
    data = RoundDataset(parts, steps * batch_size, seed, "order", trainer.current_epoch, skip=skip)
    # Lightning's own sampler would shuffle what is in order already
    order: DistributedSampler[Any] = DistributedSampler(data, trainer.world_size, trainer.global_rank, shuffle=False)
    return ResumableDataLoader(data, mine, sampler=order, collate_fn=identity_collate)


def identity_collate(batch: Any) -> Any:
    """Collates what the data set made a batch of already."""
    return batch


def _merged(rows: Sequence[Tensor], parts: Sequence[State]) -> State:
    return apply(lambda *fields: _plain(rows, fields), parts[0], *parts[1:])


def _plain(rows: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    out = parts[0].new_empty((len(rows[0]), *parts[0].shape[1:]))
    for inside, part in zip(rows, parts, strict=True):
        out[inside] = part
    return out
