"""The samples of a data module, split at random into training samples, which are inverted, and held-out samples."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from graft.core import distributed, seeding
from graft.core.state import Condition, State, cat, size, take
from graft.dataloaders.in_memory import BatchDataset
from graft.dataloaders.seeded import rebuild_dataloader
from graft.dataloaders.training import identity_collate
from graft.errors import GraftError

Encoded = tuple[State, Condition]

FEWEST = 6
"""Smallest number of samples of a split: two training samples, and two halves of two held-out samples."""


@dataclass(frozen=True)
class Split:
    """Positions of samples in the data, in random order.

    Attributes:
        training: (n,) positions of the samples that are inverted.
        held_out: (m,) positions of the samples that distances are measured to.
        rest: (k,) positions of all samples that are not held out, the inverted ones first.
    """

    training: Tensor
    held_out: Tensor
    rest: Tensor


def split(count: int, samples: "int | None", share: float, most: int, seed: int) -> Split:
    """Return a random split of ``count`` samples, which depends on the seed alone.

    Args:
        count: Number of samples in the data.
        samples: Largest number of training samples; None for all samples that are not held out.
        share: Share of the samples that is held out; more are held out if ``samples`` leaves more.
        most: Largest number of held-out samples.
        seed: Seed of the permutation.

    Raises:
        GraftError: There are too few samples.
    """
    if count < FEWEST:
        raise GraftError(
            f"the data have {count} samples; they must have at least {FEWEST}, since some are inverted and distances "
            "are measured to others. Give more data."
        )
    order = torch.randperm(count, generator=seeding.make_generator(seed, "split"))
    not_needed = 0 if samples is None else count - samples
    held_out = min(max(round(share * count), not_needed, 4), max(most, 4), count - 2)
    rest = order[held_out:]
    return Split(rest[:samples], order[:held_out], rest)


class SplitSource:
    """The samples of a data module, read by their position, in whatever order they are stored.

    The positions are those of the data set of the module's training loader. The loader's sampler only says which
    positions are used. A loader that is not a `torch.utils.data.DataLoader` of a data set with positions, such as a
    list of batches or a stream, is read once and kept in memory. Of a stream without a length, only the first samples
    are read, as many as are needed.

    Args:
        source: The data module, set up.
        encode: Function that turns a batch into (state, condition), `graft.GraftModule.encode`.
        samples: Largest number of training samples; None for all samples that are not held out.
        share: Share of the samples that is held out.
        most: Largest number of held-out samples.
        batch_size: Number of samples that are read at a time if the loader does not say.
        seed: Seed of the split and of the random numbers of the data set.

    Raises:
        GraftError: The data have no samples, or too few.
    """

    def __init__(
        self,
        source: LightningDataModule,
        encode: Callable[[Any], Encoded],
        samples: "int | None",
        share: float,
        most: int,
        batch_size: int,
        seed: int,
    ) -> None:
        self.source, self.encode, self.seed = source, encode, seed
        with self._seeded("data"):  # some modules create their data here
            self._loader = source.train_dataloader()
            self._positions = _positions(self._loader)
        self._kept: Encoded | None = None
        if self._positions is None:
            self._kept = self._read_all(None if samples is None else samples + most)
        else:
            self._batch = self._loader.batch_size or batch_size
        count = size(self._kept[1]) if self._kept is not None else len(self._positions or [])
        self.split = split(count, samples, share, most, seed)

    def training(self, number: int = 0) -> Encoded:
        """Return (state, condition) of the training samples in a pass over the data.

        The random numbers of the data set differ in each pass.
        """
        return self._read(self.split.training, "pass", number)

    def held_out(self) -> Encoded:
        """Return (state, condition) of the held-out samples."""
        return self._read(self.split.held_out, "held out", 0)

    def batches(self) -> "DataLoader[Any]":
        """Return a loader of shuffled batches of all samples that are not held out, for `encoded`."""
        rows, loader = self.split.rest, self._loader
        batch = min(self._batch, len(rows))
        if self._kept is not None:
            kept = self._kept
            batches = BatchDataset(rows, lambda indices: _select(kept, rows[indices]))
            return DataLoader(batches, batch, shuffle=True, collate_fn=identity_collate)
        assert self._positions is not None
        chosen: Any = SubsetRandomSampler([self._positions[i] for i in rows.tolist()])  # a position may be a name
        return rebuild_dataloader(loader, sampler=chosen, batch_size=batch)

    def encoded(self, batch: Any) -> Encoded:
        """Return (state, condition) of a batch of `batches`."""
        return self.encode(batch) if self._kept is None else batch

    @contextmanager
    def _seeded(self, *purpose: "int | str") -> Iterator[None]:
        """Seed torch's global generator by a purpose within the block, and restore it afterwards."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.derive_seed(self.seed, *purpose) % 2**32)
            yield

    def _read(self, rows: Tensor, purpose: str, number: int) -> Encoded:
        if self._kept is not None:
            return _select(self._kept, rows)
        assert self._positions is not None
        positions = [self._positions[i] for i in rows.tolist()]
        loader = rebuild_dataloader(self._loader, sampler=positions, batch_size=self._batch, drop_last=False)
        found = self._encoded(loader, purpose, number)
        if size(found[1]) != len(rows):
            raise GraftError(
                f"`encode` returns {size(found[1])} samples for {len(rows)} items of {type(self.source).__name__}; it "
                "must return one for each item, since graft correct splits the data by items. Change `encode`."
            )
        return found

    def _read_all(self, most: "int | None") -> Encoded:
        """Return all samples of the loader; of a stream without a length, at least ``most``."""
        sized = _length(self._loader) is not None
        found = self._encoded(self._loader, "pass", 0, None if sized else most)
        if not sized and most is not None and size(found[1]) >= most:
            distributed.rank_zero_print(
                f"{type(self.source).__name__} is a stream without a length: the first {size(found[1])} of its samples "
                "are used, so its order must be random"
            )
        return found

    def _encoded(self, loader: Any, purpose: str, number: int, most: "int | None" = None) -> Encoded:
        """Return the samples of a loader's batches; it stops once there are at least ``most``."""
        parts: list[Encoded] = []
        count = 0
        with self._seeded(purpose, number):
            for batch in loader:
                parts.append(self.encode(batch))
                count += size(parts[-1][1])
                if most is not None and count >= most:
                    break
        if not count:
            raise GraftError(f"{type(self.source).__name__} has no samples. Give more data.")
        if self._positions is None:
            self._batch = size(parts[0][1])
        return cat([part[0] for part in parts]), cat([part[1] for part in parts])


def _select(samples: Encoded, rows: Tensor) -> Encoded:
    return take(samples[0], rows), take(samples[1], rows)


def _positions(loader: Any) -> "list[Any] | None":
    """Return the positions in its data set that a loader uses, each once and in order.

    None if the loader has no positions.
    """
    if (
        not isinstance(loader, DataLoader)
        or isinstance(loader.dataset, IterableDataset)
        or loader.batch_sampler is None
    ):
        return None
    count = _length(loader.dataset)
    if count is None:
        return None
    own = loader.batch_size is None  # the user gave a batch sampler
    sampler: Any = loader.batch_sampler if own else loader.sampler
    if isinstance(sampler, RandomSampler | SequentialSampler | DistributedSampler) or _length(sampler) is None:
        return list(range(count))
    found = [position for batch in sampler for position in batch] if own else list(sampler)
    return list(dict.fromkeys(int(each) if isinstance(each, Tensor) else each for each in found))


def _length(value: Any) -> "int | None":
    try:
        return len(value)
    except (TypeError, NotImplementedError):
        return None
