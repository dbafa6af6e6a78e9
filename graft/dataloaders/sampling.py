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
from graft.core.state import repeat_rows
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
        samples_per_prefix: Number of neighbouring samples that share a condition and their first steps, as in
            `graft.core.datatypes.SampleRequest`. It divides ``count`` and ``chunk``.
    """

    def __init__(
        self,
        domain: Domain,
        count: int,
        chunk: int,
        purpose: tuple["int | str", ...],
        weights: Weights,
        record: tuple[float, ...] = (),
        samples_per_prefix: int = 1,
    ) -> None:
        self.domain, self.count, self.chunk = domain, count, chunk
        self.purpose, self.weights, self.record = purpose, weights, record
        self.samples_per_prefix = samples_per_prefix

    def __len__(self) -> int:
        return math.ceil(self.count / self.chunk)

    def __getitem__(self, index: int) -> SampleRequest:
        if index >= len(self):
            raise IndexError(index)
        generator = seeding.make_generator(self.domain.seed, "condition", *self.purpose, index)
        each, start = self.samples_per_prefix, index * self.chunk
        rows = min(self.chunk, self.count - start)
        condition = self.domain.conditions_for(self.purpose, start // each, rows // each, generator)
        condition = repeat_rows(condition, each)
        return SampleRequest(condition, (*self.purpose, index), self.weights, self.record, samples_per_prefix=each)


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
