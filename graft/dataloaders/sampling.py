"""Requests for samples in fixed chunks, and the samples and objects of a request."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from graft.core import seeding
from graft.core.datatypes import SampleRequest, Weights
from graft.core.distributed import gather_dict, launch, shared_errors
from graft.domain import Domain
from graft.sampler import Trajectory


class SampleRequests(Dataset[SampleRequest]):
    """Requests for samples in fixed chunks, which do not depend on the number of ranks.

    Args:
        domain: The domain that samples the conditions.
        count: Number of samples in all chunks.
        chunk: Number of samples in a chunk.
        purpose: Words and numbers that seed the conditions and the noise.
        weights: Name of the weights that sample.
        record: Levels at which states are recorded.
    """

    def __init__(
        self,
        domain: Domain,
        count: int,
        chunk: int,
        purpose: tuple["int | str", ...],
        weights: Weights,
        record: tuple[float, ...] = (),
    ) -> None:
        self.domain, self.count, self.chunk = domain, count, chunk
        self.purpose, self.weights, self.record = purpose, weights, record

    def __len__(self) -> int:
        return math.ceil(self.count / self.chunk)

    def __getitem__(self, index: int) -> SampleRequest:
        if index >= len(self):
            raise IndexError(index)
        generator = seeding.make_generator(self.domain.seed, "condition", *self.purpose, index)
        start = index * self.chunk
        condition = self.domain.conditions_for(self.purpose, start, min(self.chunk, self.count - start), generator)
        return SampleRequest(condition, (*self.purpose, index), self.weights, self.record)


def groups(requests: SampleRequests) -> Tensor:
    """Return (count,) integers of the conditions of all requested samples, by `Domain.group`."""
    return torch.cat([requests.domain.group(requests[i].condition).cpu() for i in range(len(requests))])


def sample_batch(trainer: Trainer, request: SampleRequest, index: int) -> Trajectory:
    """Return the samples of a request, in the precision and on the device of the trainer."""
    batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(request))
    drawn: Any = trainer.strategy.predict_step(batch, index)
    trajectory: Trajectory = drawn
    return trajectory


def sample_objects(
    module: LightningModule, trainer: Trainer, requests: SampleRequests
) -> "Iterator[tuple[list[Any], int]]":
    """Yield (objects, denoiser calls) of each request; the trainer samples."""
    launch(trainer, module)
    with shared_errors(trainer):
        mine: Any = trainer.predict(module, DataLoader(requests, batch_size=None))
    rank, world = trainer.global_rank, trainer.world_size
    for index, trajectory in gather_dict(trainer, {i * world + rank: each for i, each in enumerate(mine)}).items():
        items = requests.domain.decode(trajectory.state, requests[index].condition)
        yield items, trajectory.denoiser_calls * len(items)
