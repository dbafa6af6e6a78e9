"""Data that are inverted and data of the evaluation: a random split in any order of storage."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
)

from graft.commands.correct.samples import SplitSource, split
from graft.errors import GraftError

COUNT, CLASSES = 1000, 4
STORED = torch.arange(COUNT)  # sample i is the number i; a quarter of them is of each class, stored class by class


class Stream(IterableDataset[Any]):
    """Batches of stored data in their order, without a length."""

    def __iter__(self) -> Iterator[Tensor]:
        yield from STORED.split(64)


class Source(LightningDataModule):
    def __init__(self, loader: Any) -> None:
        super().__init__()
        self.loader = loader

    def train_dataloader(self) -> Any:
        return self.loader


def encode(batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
    number = batch[0] if isinstance(batch, list | tuple) else batch
    return number.float(), {"label": number * CLASSES // COUNT}


LOADERS = {
    "shuffled": lambda: DataLoader(TensorDataset(STORED), 64, shuffle=True),
    "in order": lambda: DataLoader(TensorDataset(STORED), 64),
    "drop last": lambda: DataLoader(TensorDataset(STORED), 64, drop_last=True),
    "batch sampler": lambda: DataLoader(
        TensorDataset(STORED), batch_sampler=BatchSampler(SequentialSampler(STORED), 64, False)
    ),
    "list": lambda: list(STORED.split(64)),
    "stream": lambda: DataLoader(Stream(), batch_size=None),
}


def chosen(
    loader: Any, samples: "int | None" = None, share: float = 0.5, most: int = 400, seed: int = 0
) -> SplitSource:
    return SplitSource(Source(loader), encode, samples, share, most, 32, seed)


@pytest.mark.parametrize("kind", LOADERS)
def test_both_parts_have_every_class(kind: str) -> None:
    """Of 400 samples held out of 1000 stored class by class, 100 ± 21 are of each class except once in 10^5."""
    found = chosen(LOADERS[kind]())
    (training, given), (held_out, label) = found.training(), found.held_out()
    assert len(held_out) == 400 and len(training) == 600
    assert sorted([*training.tolist(), *held_out.tolist()]) == STORED.tolist()
    for numbers, classes in ((training, given["label"]), (held_out, label["label"])):
        assert torch.equal(classes, numbers.long() * CLASSES // COUNT)  # each with its own condition
        assert ((classes.bincount() / len(numbers)) - 0.25).abs().max() < 0.055
    part = chosen(LOADERS[kind](), samples=200).training()[1]["label"]
    assert len(part) == 200 and (part.bincount() - 50).abs().max() < 35


@pytest.mark.parametrize("kind", LOADERS)
def test_split_follows_from_the_seed_alone(kind: str) -> None:
    """The split depends neither on torch's generator nor on a shuffled loader; passes have the same samples."""
    before = torch.get_rng_state()
    first = chosen(LOADERS[kind]()).training()[0]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    again = chosen(LOADERS[kind]())
    assert torch.equal(again.training()[0], first) and torch.equal(again.training(1)[0], first)
    assert not torch.equal(chosen(LOADERS[kind](), seed=1).training()[0], first)
    batches = list(again.batches())
    numbers = [number for batch in batches for number in again.encoded(batch)[0].tolist()]
    assert set(numbers) <= set(first.tolist()) and 600 - 64 < len(set(numbers)) == len(numbers)
    assert {len(again.encoded(batch)[0]) for batch in batches[:-1]} <= {32, 64}


@pytest.mark.parametrize("kind", LOADERS)
def test_batches_have_all_that_is_not_held_out(kind: str) -> None:
    """Where few samples are inverted, more training still sees the others."""
    found = chosen(LOADERS[kind](), samples=100)
    numbers = [number for batch in found.batches() for number in found.encoded(batch)[0].tolist()]
    held_out, inverted = found.held_out()[0].tolist(), found.training()[0].tolist()
    assert not set(numbers) & set(held_out) and len(inverted) == 100 and not set(inverted) & set(held_out)
    rest = len(found.split.rest)
    read = 512 if kind == "stream" else COUNT  # of a stream, as many as are needed
    assert rest == read - len(held_out) > 100
    assert rest - 64 < len(set(numbers)) == len(numbers)  # a loader may drop its last batch
    assert not set(numbers) <= set(inverted)


def test_a_sampler_says_which_samples_there_are() -> None:
    inside = list(range(0, COUNT, 4))
    found = chosen(DataLoader(TensorDataset(STORED), 64, sampler=SubsetRandomSampler(inside)))
    assert sorted([*found.training()[0].tolist(), *found.held_out()[0].tolist()]) == inside


def test_data_that_are_made_on_the_way() -> None:
    """A module that draws its data in ``train_dataloader``: all passes and parts are of one data set."""

    class Made(LightningDataModule):
        def train_dataloader(self) -> Any:
            return DataLoader(TensorDataset(torch.randperm(COUNT)), 64, shuffle=True)

    found = SplitSource(Made(), encode, None, 0.5, 400, 32, 0)
    assert torch.equal(found.training()[0], found.training(1)[0])
    assert sorted([*found.training()[0].tolist(), *found.held_out()[0].tolist()]) == STORED.tolist()


def test_what_a_data_set_draws_is_other_in_each_pass() -> None:
    class Noisy(Dataset[Any]):
        def __len__(self) -> int:
            return COUNT

        def __getitem__(self, index: int) -> Any:
            return index + 0.5 * torch.rand(())

    def numbers(batch: Any) -> Any:
        return batch, {"label": torch.zeros(len(batch))}

    def found(number: int) -> Tensor:
        return SplitSource(Source(DataLoader(Noisy(), 64)), numbers, None, 0.5, 400, 32, 0).training(number)[0]

    assert torch.equal(found(0), found(0)) and not torch.equal(found(0), found(1))
    assert torch.equal(found(0).floor(), found(1).floor())


def test_stream_is_read_as_far_as_needed(capsys: pytest.CaptureFixture[str]) -> None:
    found = chosen(LOADERS["stream"](), samples=50, most=20)
    assert len(found.training()[0]) == 50 and len(found.held_out()[0]) == 20
    assert max(*found.training()[0].tolist(), *found.held_out()[0].tolist()) < 128  # two batches
    assert "stream without a length: the first 128" in capsys.readouterr().out
    assert max(chosen(LOADERS["list"](), samples=50, most=20).training()[0].tolist()) > 500  # this has one


def test_sizes() -> None:
    """(data, samples, share, most) -> (inverted, held out)."""
    for (count, samples, share, most), sizes in {
        (1000, None, 0.5, 4000): (500, 500),
        (100_000, None, 0.5, 4000): (96_000, 4000),
        (1000, 100, 0.25, 4000): (100, 900),
        (1000, 100, 0.25, 300): (100, 300),
        (1000, 900, 0.25, 4000): (750, 250),
        (6, None, 0.1, 100): (2, 4),
        (6, None, 0.99, 100): (2, 4),
    }.items():
        found = split(count, samples, share, most, 0)
        assert (len(found.training), len(found.held_out)) == sizes
        assert not set(found.training.tolist()) & set(found.held_out.tolist())
    with pytest.raises(GraftError, match="the data have 5 samples"):
        split(5, None, 0.5, 100, 0)


def test_refusals() -> None:
    with pytest.raises(GraftError, match="has no samples"):
        chosen([])
    with pytest.raises(GraftError, match="one for each item"):
        twice = SplitSource(
            Source(LOADERS["shuffled"]()), lambda b: (b[0].repeat(2), {"row": b[0].repeat(2)}), None, 0.5, 9, 9, 0
        )
        twice.training()
