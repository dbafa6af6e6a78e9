"""Reproducible batches of a data module, so that an epoch resumes where it stopped."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, RandomSampler, SequentialSampler

from graft.core import seeding


class SeededDataLoader:
    """A loader that seeds its order, and the torch random numbers of its data set, by the epoch.

    On resume, the batches before the interruption are loaded again and skipped, since random numbers depend on them.

    Args:
        loader: A loader with a length.
        trainer: The trainer, for the number of the epoch.
        seed: Seed of the orders.
    """

    def __init__(self, loader: "DataLoader[Any]", trainer: Trainer, seed: int) -> None:
        self.loader, self.trainer, self.seed = loader, trainer, seed

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        epoch, rank = self.trainer.current_epoch, self.trainer.global_rank
        # number of batches before the interruption of a resumed run; else 0
        skip = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        if isinstance(self.loader.sampler, DistributedSampler):
            self.loader.sampler.set_epoch(epoch)
        generator = seeding.make_generator(self.seed, "data", epoch, rank)
        with _drawing(generator):
            batches = iter(self.loader)
        for index in range(len(self)):
            with _drawing(generator):  # training uses random numbers in between
                batch = next(batches)
            if index >= skip:
                yield batch

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state.

        The number of steps is enough to resume. Lightning resumes only loaders that have this method.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Ignore the state, which is empty."""


@contextmanager
def _drawing(generator: torch.Generator) -> Iterator[None]:
    """Use the given generator as the global one of torch within the block."""
    before = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.get_rng_state())
        torch.set_rng_state(before)


@contextmanager
def seeded_train_dataloader(data: LightningDataModule, trainer: Trainer, seed: int) -> Iterator[None]:
    """Make the training loader of a data module a `SeededDataLoader` within the block.

    Streams and loaders with a custom sampler stay as they are.
    """
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
    """Return a loader of the part of this rank, divided as by Lightning."""
    shuffle = isinstance(loader.sampler, RandomSampler)
    mine: DistributedSampler[Any]
    mine = DistributedSampler(loader.dataset, trainer.world_size, trainer.global_rank, shuffle=shuffle, seed=seed)
    return rebuild_dataloader(loader, sampler=mine)


def rebuild_dataloader(loader: "DataLoader[Any]", **changes: Any) -> "DataLoader[Any]":
    """Return a loader of the same data and settings, in the order of the data, with changes.

    A new loader is needed because torch forbids changes to an existing one.
    """
    names = "batch_size", "num_workers", "collate_fn", "pin_memory", "drop_last", "timeout", "worker_init_fn"
    kept = {name: getattr(loader, name) for name in (*names, "persistent_workers")}
    return DataLoader(loader.dataset, **{**kept, **changes})
