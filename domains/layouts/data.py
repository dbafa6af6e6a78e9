"""Layouts for pre-training, from files or generated: a LightningDataModule."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from typing_extensions import override

from domains.layouts.conditioning import TASKS, Task, make_condition, to_state
from domains.layouts.layout import classes_of
from domains.layouts.readers import LayoutSet, read_layouts
from graft.core import limits
from graft.core.distributed import rank_zero_print
from graft.dataloaders.in_memory import BatchDataset, InMemoryDataModule
from graft.errors import GraftError
from graft.io.invalid_records import describe_invalid

TASK_SHARES: dict[Task, float] = {
    "unconditional": 0.5,
    "label": 0.125,
    "size": 0.125,
    "completion": 0.125,
    "refinement": 0.125,
}


def batch(pages: LayoutSet, task: Task = "unconditional", generator: "torch.Generator | None" = None) -> dict[str, Any]:
    """Return ``box`` (B, N, 4) in units of the state, ``label`` (B, N) int64, and ``condition``.

    Args:
        pages: B layouts.
        task: Task of the condition.
        generator: Generator of the fixed part.
    """
    mask = (torch.arange(pages.labels.shape[1]) < torch.from_numpy(pages.counts)[:, None]).float()
    box = to_state(torch.from_numpy(pages.boxes)) * mask[..., None]
    label = torch.from_numpy(pages.labels)
    return {
        "box": box,
        "label": label,
        "condition": make_condition(task, box, label, mask, len(pages.names), generator),
    }


class LayoutData(InMemoryDataModule[LayoutSet]):
    """Layouts for pre-training, split into training and validation.

    Args:
        source: ``generated``, or a source of `domains.layouts.readers.read`: COCO JSON, tokens, arrays, RICO.
        classes: Names of the classes, their number, or ``rico``; elements of other classes are left out.
        elements: Largest number of elements; larger layouts are left out.
        tasks: Share of each task among the batches.
        count: Number of generated layouts.
        batch_size: Layouts per batch.
        limit: Number of layouts that are used, chosen at random with ``seed``; ``null`` for all.
        val_fraction: Share of the layouts in the validation part.
        seed: Seed of the split and of generated pages.
    """

    noun = "layouts"

    def __init__(
        self,
        source: str = "generated",
        classes: "list[str | int] | str | int | None" = None,
        elements: int = 20,
        tasks: "dict[Task, float] | None" = None,
        count: int = 20000,
        batch_size: int = 64,
        limit: "int | None" = None,
        val_fraction: float = 0.15,
        seed: int = 0,
    ) -> None:
        super().__init__(source, batch_size, limit, val_fraction, seed)
        limits.check("data.elements", elements, 1)
        limits.check("data.count", count, 1)
        self.elements, self.count = elements, count
        self.names = classes_of(classes)
        self.tasks = TASK_SHARES if tasks is None else tasks
        unknown = set(self.tasks) - set(TASKS)
        if unknown:
            raise GraftError(f"data.tasks has {', '.join(sorted(unknown))}: give some of {', '.join(TASKS)}")
        if not sum(self.tasks.values()) > 0 or min(self.tasks.values()) < 0:
            raise GraftError("data.tasks are shares of the batches: none may be negative, and one must be above 0")
        self.left_out: list[tuple[str, str]] = []
        """(place in the source, reason) of elements and layouts that cannot be used; known after `setup`."""

    @override
    def read(self) -> tuple[LayoutSet, str]:
        pages = read_layouts(self.source, self.names, self.elements, self.count, self.seed)
        self.left_out = pages.named
        invalid = describe_invalid(pages.named)
        rank_zero_print(f"{len(pages)} layouts from {self.source}" + (f" ({invalid})" if invalid else ""))
        return pages, invalid

    @override
    def part(self, samples: LayoutSet, rows: NDArray[np.int64], training: bool) -> LayoutSet:
        return samples.take(rows)

    @override
    def dataset(self, part: LayoutSet, training: bool) -> "Dataset[Any]":
        """Return batches, each in a random task; in validation no layout has a fixed part."""
        tasks: dict[Task, float] = self.tasks if training else {"unconditional": 1.0}
        weights = torch.tensor(list(tasks.values()), dtype=torch.float64)

        def fetch(indices: list[int]) -> dict[str, Any]:
            some = part.take(np.asarray(indices))
            return batch(some, list(tasks)[int(torch.multinomial(weights, 1))])

        return BatchDataset(part, fetch)
