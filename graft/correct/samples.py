"""Samples of a data module, split at random into those that are inverted and those that the distances are to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
)

from graft import distributed, seeding
from graft.batches.resumable_loader import rebuild_dataloader
from graft.batches.training_data import identity_collate
from graft.errors import GraftError
from graft.state import Condition, State, cat, size, take

Encoded = tuple[State, Condition]

FEWEST = 6
"""Samples of a split: two that are inverted, and two halves of two that the distances are to."""


@dataclass(frozen=True)
class Split:
    """Places of samples in the data, in random order.

    Attributes:
        training: (n,) of those that are inverted.
        held_out: (m,) of those that the distances are to.
    """

    training: Tensor
    held_out: Tensor


def split(count: int, samples: "int | None", share: float, most: int, seed: int) -> Split:
    """Split ``count`` samples by a permutation that follows from the seed alone.

    Args:
        count: Samples in the data.
        samples: At most so many are inverted; None: all that are not held out.
        share: Of the samples that is held out; more are where ``samples`` leaves more over.
        most: At most so many are held out.
        seed: Of the permutation.

    Raises:
        GraftError: There are too few.
    """
    if count < FEWEST:
        raise GraftError(f"there are {count} samples of data; give at least {FEWEST}: some are inverted, others judge")
    order = torch.randperm(count, generator=seeding.make_generator(seed, "split"))
    spare = 0 if samples is None else count - samples
    held_out = min(max(round(share * count), spare, 4), max(most, 4), count - 2)
    return Split(order[held_out:][:samples], order[:held_out])


class Samples:
    """Reads the samples of a data module by their place, whatever order they are stored in.

    The places are those of the data set of the module's training loader; its sampler only says which are used. A loader
    that is no `torch.utils.data.DataLoader` of a data set with places, such as a list of batches or a stream, is read
    once and kept. Of a stream without a length, no more is read than is needed: what it gives first.

    Args:
        source: The data module, set up.
        encode: Turns a batch into (state, condition), `graft.GraftModule.encode`.
        samples: As of `split`.
        share: As of `split`.
        most: As of `split`.
        batch_size: Samples that are read at a time where the loader does not say.
        seed: Of the split, and of what the data set draws.
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
        with self._seeded("data"):  # some modules make their data here
            self._loader = source.train_dataloader()
            self._places = _places(self._loader)
        self._kept: Encoded | None = None
        if self._places is None:
            self._kept = self._all(None if samples is None else samples + most)
        else:
            self._batch = self._loader.batch_size or batch_size
        count = size(self._kept[1]) if self._kept is not None else len(self._places or [])
        self.split = split(count, samples, share, most, seed)

    def training(self, number: int = 0) -> Encoded:
        """Return the samples that are inverted; what the data set draws for them is other in each pass ``number``."""
        return self._read(self.split.training, "pass", number)

    def held_out(self) -> Encoded:
        """Return the samples that the distances are to."""
        return self._read(self.split.held_out, "held out", 0)

    def batches(self) -> "DataLoader[Any]":
        """Return a loader of shuffled batches of the samples that are inverted, for `encoded`."""
        rows, loader = self.split.training, self._loader
        batch = min(self._batch, len(rows))
        if self._kept is not None:
            return DataLoader(_Kept(*_taken(self._kept, rows)), batch, shuffle=True, collate_fn=identity_collate)
        assert self._places is not None
        chosen: Any = SubsetRandomSampler([self._places[i] for i in rows.tolist()])  # places need be no numbers
        return rebuild_dataloader(loader, sampler=chosen, batch_size=batch)

    def encoded(self, batch: Any) -> Encoded:
        """Return (state, condition) of a batch of `batches`."""
        return self.encode(batch) if self._kept is None else batch

    @contextmanager
    def _seeded(self, *purpose: "int | str") -> Iterator[None]:
        """Within the block, torch's own generator is seeded from what it is for; afterwards it is as before."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seeding.derive_seed(self.seed, *purpose) % 2**32)
            yield

    def _read(self, rows: Tensor, purpose: str, number: int) -> Encoded:
        if self._kept is not None:
            return _taken(self._kept, rows)
        assert self._places is not None
        places = [self._places[i] for i in rows.tolist()]
        loader = rebuild_dataloader(self._loader, sampler=places, batch_size=self._batch, drop_last=False)
        found = self._encoded(loader, purpose, number)
        if size(found[1]) != len(rows):
            raise GraftError(
                f"`encode` makes {size(found[1])} samples of {len(rows)} items of {type(self.source).__name__}, but "
                "graft correct splits the data by items: have it make one sample of each"
            )
        return found

    def _all(self, most: "int | None") -> Encoded:
        sized = _length(self._loader) is not None
        found = self._encoded(self._loader, "pass", 0, None if sized else most)
        if not sized and most is not None and size(found[1]) >= most:
            distributed.rank_zero_print(
                f"{type(self.source).__name__} is a stream without a length: the first {size(found[1])} of its samples "
                "are used, so its order must be random"
            )
        return found

    def _encoded(self, loader: Any, purpose: str, number: int, most: "int | None" = None) -> Encoded:
        """All that a loader gives, or enough of it."""
        parts: list[Encoded] = []
        count = 0
        with self._seeded(purpose, number):
            for batch in loader:
                parts.append(self.encode(batch))
                count += size(parts[-1][1])
                if most is not None and count >= most:
                    break
        if not count:
            raise GraftError(f"{type(self.source).__name__} has no samples: give more data")
        if self._places is None:
            self._batch = size(parts[0][1])
        condition = cat([part[1] for part in parts])
        assert isinstance(condition, dict)
        return cat([part[0] for part in parts]), condition


class _Kept(Dataset[Any]):
    """Samples in memory, fetched by the batch."""

    def __init__(self, state: State, condition: Condition) -> None:
        self.state, self.condition = state, condition

    def __len__(self) -> int:
        return size(self.condition)

    def __getitem__(self, index: int) -> Encoded:
        return self.__getitems__([index])

    def __getitems__(self, indices: "list[int]") -> Encoded:
        return _taken((self.state, self.condition), torch.tensor(indices))


def _taken(samples: Encoded, rows: Tensor) -> Encoded:
    condition = take(samples[1], rows)
    assert isinstance(condition, dict)
    return take(samples[0], rows), condition


def _places(loader: Any) -> "list[Any] | None":
    """The places in its data set that a loader uses, each once and in order; None where there are none."""
    if (
        not isinstance(loader, DataLoader)
        or isinstance(loader.dataset, IterableDataset)
        or loader.batch_sampler is None
    ):
        return None
    count = _length(loader.dataset)
    if count is None:
        return None
    own = loader.batch_size is None  # its batches are a sampler's of the user's own
    sampler: Any = loader.batch_sampler if own else loader.sampler
    if isinstance(sampler, RandomSampler | SequentialSampler | DistributedSampler) or _length(sampler) is None:
        return list(range(count))
    found = [place for batch in sampler for place in batch] if own else list(sampler)
    return list(dict.fromkeys(int(place) if isinstance(place, Tensor) else place for place in found))


def _length(value: Any) -> "int | None":
    try:
        return len(value)
    except (TypeError, NotImplementedError):
        return None
