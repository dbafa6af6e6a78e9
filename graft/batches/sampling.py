"""Requests for draws in fixed chunks, and the objects that come of them."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from graft import seeding
from graft.batches.requests import SampleRequest, Weights
from graft.distributed import gather_dict, launch, shared_errors
from graft.module import GraftModule
from graft.sampler import Trajectory


class SampleRequests(Dataset[SampleRequest]):
    """Requests for draws in fixed chunks, so that what is drawn depends on no number of processes.

    Args:
        module: Draws the conditions.
        count: Draws in all.
        chunk: Draws in each.
        purpose: What for; seeds conditions and noise.
        weights: Whose draws.
        record: Levels to keep.
    """

    def __init__(
        self,
        module: GraftModule,
        count: int,
        chunk: int,
        purpose: tuple["int | str", ...],
        weights: Weights,
        record: tuple[float, ...] = (),
    ) -> None:
        self.module, self.count, self.chunk = module, count, chunk
        self.purpose, self.weights, self.record = purpose, weights, record

    def __len__(self) -> int:
        return math.ceil(self.count / self.chunk)

    def __getitem__(self, index: int) -> SampleRequest:
        if index >= len(self):
            raise IndexError(index)
        generator = seeding.make_generator(self.module.seed, "condition", *self.purpose, index)
        start = index * self.chunk
        condition = self.module.conditions_for(self.purpose, start, min(self.chunk, self.count - start), generator)
        return SampleRequest(condition, (*self.purpose, index), self.weights, self.record)


def groups(requests: SampleRequests) -> Tensor:
    """Return (count,) integers of the conditions of all draws that are asked for; see `GraftModule.group`."""
    return torch.cat([requests.module.group(requests[i].condition).cpu() for i in range(len(requests))])


def sample_batch(trainer: Trainer, request: SampleRequest, index: int) -> Trajectory:
    """What a request asks for, as Lightning's own loops would draw it: in the trainer's precision, on its device."""
    batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(request))
    drawn: Any = trainer.strategy.predict_step(batch, index)
    trajectory: Trajectory = drawn
    return trajectory


def sample_objects(
    module: GraftModule, trainer: Trainer, requests: SampleRequests
) -> "Iterator[tuple[list[Any], int]]":
    """(objects, denoiser calls) of each request, drawn by the trainer."""
    launch(trainer, module)
    with shared_errors(trainer):
        mine: Any = trainer.predict(module, DataLoader(requests, batch_size=None))
    rank, world = trainer.global_rank, trainer.world_size
    for index, trajectory in gather_dict(trainer, {i * world + rank: each for i, each in enumerate(mine)}).items():
        items = module.decode(trajectory.state, requests[index].condition)
        yield items, trajectory.denoiser_calls * len(items)
