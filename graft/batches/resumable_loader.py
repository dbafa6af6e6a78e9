"""Batches of a data module that come again as they came, so that an interrupted epoch goes on where it stopped."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, RandomSampler, SequentialSampler

from graft import seeding


class SeededDataLoader:
    """A loader whose order, and whatever its data set draws with torch, are seeded from the epoch.

    What was learned of an epoch before it was interrupted is drawn once more and passed over.

    Args:
        loader: Of a length.
        trainer: Says which epoch it is.
        seed: Of the orders.
    """

    def __init__(self, loader: "DataLoader[Any]", trainer: Trainer, seed: int) -> None:
        self.loader, self.trainer, self.seed = loader, trainer, seed

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        epoch, rank = self.trainer.current_epoch, self.trainer.global_rank
        skip = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready  # restored by now; else 0
        if isinstance(self.loader.sampler, DistributedSampler):
            self.loader.sampler.set_epoch(epoch)
        generator = seeding.make_generator(self.seed, "data", epoch, rank)
        with _drawing(generator):
            batches = iter(self.loader)
        for index in range(len(self)):
            with _drawing(generator):  # training draws in between
                batch = next(batches)
            if index >= skip:
                yield batch

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the number of steps says it. Lightning takes a loader with this for one that goes on."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See above."""


@contextmanager
def _drawing(generator: torch.Generator) -> Iterator[None]:
    """Within the block torch's own generator is the given one."""
    before = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.get_rng_state())
        torch.set_rng_state(before)


@contextmanager
def seeded_train_dataloader(data: LightningDataModule, trainer: Trainer, seed: int) -> Iterator[None]:
    """Within the block training batches are a `SeededDataLoader`; streams and samplers of its own are left alone."""
    made = data.train_dataloader

    def train_dataloader() -> Any:
        loader: Any = made()
        if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset) or not loader.batch_size:
            return loader
        if trainer.world_size > 1:
            if type(loader.sampler) not in (RandomSampler, SequentialSampler):
                return loader
            loader = _shared(loader, trainer, seed)
        return SeededDataLoader(loader, trainer, seed)

    data.train_dataloader = train_dataloader  # type: ignore[method-assign]
    try:
        yield
    finally:
        data.train_dataloader = made  # type: ignore[method-assign]


def _shared(loader: "DataLoader[Any]", trainer: Trainer, seed: int) -> "DataLoader[Any]":
    """The part of this process, as Lightning would share it out."""
    shuffle = isinstance(loader.sampler, RandomSampler)
    mine: DistributedSampler[Any]
    mine = DistributedSampler(loader.dataset, trainer.world_size, trainer.global_rank, shuffle=shuffle, seed=seed)
    return rebuild_dataloader(loader, sampler=mine)


def rebuild_dataloader(loader: "DataLoader[Any]", **changes: Any) -> "DataLoader[Any]":
    """A loader of the same data and settings, in the data's order, but for ``changes``; torch cannot change one."""
    names = "batch_size", "num_workers", "collate_fn", "pin_memory", "drop_last", "timeout", "worker_init_fn"
    kept = {name: getattr(loader, name) for name in (*names, "persistent_workers")}
    return DataLoader(loader.dataset, **{**kept, **changes})
