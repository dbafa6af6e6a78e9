"""Data modules of data sets that fit into memory, for training on data."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sized
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from lightning import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from graft.core import limits
from graft.dataloaders.training import identity_collate
from graft.errors import GraftError

Part = TypeVar("Part", bound=Sized)
"""Samples of one part of the split."""
Data = TypeVar("Data", bound="InMemoryDataModule[Any]")


class BatchDataset(Dataset[Any]):
    """Samples that a `torch.utils.data.DataLoader` fetches by the batch.

    Args:
        samples: Collection that has a length.
        fetch: Function from positions to a batch.
    """

    def __init__(self, samples: Sized, fetch: Callable[[list[int]], Any]) -> None:
        self.samples, self.fetch = samples, fetch

    def __len__(self) -> int:
        return len(self.samples)

    @override
    def __getitem__(self, index: int) -> Any:
        return self.fetch([index])

    def __getitems__(self, indices: list[int]) -> Any:
        return self.fetch(indices)


class InMemoryDataModule(LightningDataModule, ABC, Generic[Part]):
    """A data set in memory, split at random into a training and a validation part.

    A subclass implements `read` and `part`, and `dataset` where its parts are no data sets themselves.

    Args:
        source: Name or path of the data.
        batch_size: Samples per batch.
        limit: Number of samples that are used, chosen at random with ``seed``; None for all.
        val_fraction: Share of the samples in the validation part, which has at least one.
        seed: Seed of the split.

    Raises:
        GraftError: A setting is out of its range.
    """

    noun: ClassVar[str] = "samples"

    def __init__(self, source: str, batch_size: int, limit: "int | None", val_fraction: float, seed: int) -> None:
        super().__init__()
        limits.check("data.batch_size", batch_size, 1)
        limits.check("data.limit", limit, 2)  # one sample of each part
        limits.check("data.val_fraction", val_fraction, 0, 1, below=True)
        self.source, self.batch_size, self.limit = source, batch_size, limit
        self.val_fraction, self.seed = val_fraction, seed
        self._parts: tuple[Part, Part] | None = None

    @abstractmethod
    def read(self) -> tuple[Any, str]:
        """Return all samples of the source, and a description of its invalid records.

        The samples have a length.
        """

    @abstractmethod
    def part(self, samples: Any, rows: NDArray[np.int64], training: bool) -> Part:
        """Return the samples at ``rows``, for training or for validation."""

    def dataset(self, part: Part, training: bool) -> "Dataset[Any]":
        """Return the data set of a part, whose items are batches."""
        assert isinstance(part, Dataset)
        return part

    @override
    def setup(self, stage: "str | None" = None) -> None:
        """Read and split the samples, once.

        Raises:
            GraftError: The source cannot be read, or too few of its samples can be used.
        """
        if self._parts is not None:
            return
        samples, invalid = self.read()
        order = np.random.default_rng(self.seed).permutation(len(samples))[: self.limit]
        held_out = max(1, round(len(order) * self.val_fraction))
        if len(order) <= held_out:
            raise GraftError(
                f"only {len(order)} {self.noun} of {self.source!r} can be used, too few to train on"
                + (f" ({invalid})" if invalid else "")
            )
        self._parts = self.part(samples, order[held_out:], True), self.part(samples, order[:held_out], False)

    @property
    def train_set(self) -> Part:
        """The training part."""
        self.setup()
        assert self._parts is not None
        return self._parts[0]

    @property
    def val_set(self) -> Part:
        """The validation part."""
        self.setup()
        assert self._parts is not None
        return self._parts[1]

    @override
    def train_dataloader(self) -> "DataLoader[Any]":
        data = self.dataset(self.train_set, True)
        return DataLoader(data, self.batch_size, shuffle=True, collate_fn=identity_collate)

    @override
    def val_dataloader(self) -> "DataLoader[Any]":
        return DataLoader(self.dataset(self.val_set, False), self.batch_size, collate_fn=identity_collate)


def pretraining_data(module: Any, kind: type[Data], stage: str) -> "Data | None":
    """Return the trainer's data module in pre-training on data of this kind, else None.

    Pre-training has no reference.
    """
    data = getattr(module.trainer, "datamodule", None)
    return data if stage == "fit" and module.policy.reference_file is None and isinstance(data, kind) else None
