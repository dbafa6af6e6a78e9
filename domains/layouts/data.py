"""Layouts for pre-training: a LightningDataModule over files of layouts, or over pages that are made here."""

from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from domains.layouts.conditioning import Task, make_condition, to_state
from domains.layouts.layout import classes_of
from domains.layouts.readers import LayoutSet, describe_invalid, read
from graft.batches.training_data import identity_collate
from graft.distributed import rank_zero_print
from graft.errors import GraftError

TASK_SHARES: dict[Task, float] = {
    "unconditional": 0.5,
    "label": 0.125,
    "size": 0.125,
    "completion": 0.125,
    "refinement": 0.125,
}


class _Batched(torch.utils.data.Dataset[Any]):
    """Collection that a `torch.utils.data.DataLoader` fetches by the batch, a task drawn for each batch."""

    def __init__(self, pages: LayoutSet, tasks: "dict[Task, float]") -> None:
        self.pages, self.tasks = pages, tasks

    def __len__(self) -> int:
        return len(self.pages)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])

    def __getitems__(self, indices: "list[int]") -> dict[str, Any]:
        some = self.pages.take(np.asarray(indices))
        drawn = int(torch.multinomial(torch.tensor(list(self.tasks.values()), dtype=torch.float64), 1))
        return batch(some, list(self.tasks)[drawn])


def batch(pages: LayoutSet, task: Task = "unconditional", generator: "torch.Generator | None" = None) -> dict[str, Any]:
    """``box`` (B, N, 4) as in the state, ``label`` (B, N) int64, and their ``condition`` in a task."""
    mask = (torch.arange(pages.labels.shape[1]) < torch.from_numpy(pages.counts)[:, None]).float()
    box = to_state(torch.from_numpy(pages.boxes)) * mask[..., None]
    label = torch.from_numpy(pages.labels)
    return {
        "box": box,
        "label": label,
        "condition": make_condition(task, box, label, mask, len(pages.names), generator),
    }


class LayoutData(LightningDataModule):
    """Layouts for pre-training, split into training and validation.

    Args:
        source: ``generated``, or what `domains.layouts.readers.read` reads: COCO JSON, tokens, arrays, RICO.
        classes: Names of the classes, their number, or ``rico``; elements of others are left out.
        elements: Layouts of more are left out.
        tasks: Share of each task among the batches.
        count: Collection to make, where they are.
        batch_size: Layouts per batch.
        limit: Use only this many layouts, drawn with ``seed``.
        validation: Share that is held out.
        seed: Of the split, and of the pages that are made.
    """

    def __init__(
        self,
        source: str = "generated",
        classes: "list[str | int] | str | int | None" = None,
        elements: int = 20,
        tasks: "dict[Task, float] | None" = None,
        count: int = 20000,
        batch_size: int = 64,
        limit: "int | None" = None,
        validation: float = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.source, self.elements, self.count = source, elements, count
        self.names = classes_of(classes)
        self.tasks = TASK_SHARES if tasks is None else tasks
        if not sum(self.tasks.values()) > 0 or min(self.tasks.values()) < 0:
            raise GraftError("data.tasks are shares of the batches: none may be negative, and not all 0")
        self.batch_size, self.limit, self.validation, self.seed = batch_size, limit, validation, seed
        self.left_out: list[tuple[str, str]] = []
        """(where it stands, why) of elements and layouts that could not be used; known after `setup`."""
        self._parts: tuple[LayoutSet, LayoutSet] | None = None

    def setup(self, stage: "str | None" = None) -> None:
        """Read and split the layouts, once.

        Raises:
            GraftError: The source cannot be read, or too few of its layouts can be used.
        """
        if self._parts is not None:
            return
        pages = read(self.source, self.names, self.elements, self.count, self.seed)
        self.left_out = pages.named
        missing = describe_invalid(pages.named)
        rank_zero_print(f"{len(pages)} layouts from {self.source}" + (f" (left out: {missing})" if missing else ""))
        order = np.random.default_rng(self.seed).permutation(len(pages))[: self.limit]
        held_out = max(1, round(len(order) * self.validation))
        if len(order) <= held_out:
            raise GraftError(
                f"only {len(order)} layouts of {self.source!r} can be used, too few to train on ({missing})"
            )
        self._parts = pages.take(order[held_out:]), pages.take(order[:held_out])

    @property
    def training(self) -> LayoutSet:
        """The training part."""
        self.setup()
        assert self._parts is not None
        return self._parts[0]

    @property
    def held_out(self) -> LayoutSet:
        """The part that is held out."""
        self.setup()
        assert self._parts is not None
        return self._parts[1]

    def train_dataloader(self) -> "DataLoader[Any]":
        """Shuffled batches."""
        return DataLoader(
            _Batched(self.training, self.tasks), self.batch_size, shuffle=True, collate_fn=identity_collate
        )

    def val_dataloader(self) -> "DataLoader[Any]":
        """Batches of the part that is held out, nothing given."""
        return DataLoader(_Batched(self.held_out, {"unconditional": 1.0}), self.batch_size, collate_fn=identity_collate)
