"""What is served to the optimizer: examples of one or more rounds, which stay where they are until a batch is made."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from graft import seeding
from graft.batches import Examples
from graft.state import State, apply, size


class Served(Dataset[Any]):
    """Rounds' examples, reshuffled in every pass, as many as the steps of a round need.

    Args:
        parts: What the objective made of each round.
        length: Samples served.
        seed: Of the order.
        purpose: Likewise.
        skip: Samples that were served before: the first one is the one after them.
    """

    def __init__(self, parts: Sequence[Examples], length: int, seed: int, *purpose: "int | str", skip: int = 0) -> None:
        self.parts, self.length, self.skip = parts, length, skip
        self.starts = torch.tensor([0, *(size(part.condition) for part in parts)]).cumsum(0)
        count = int(self.starts[-1])
        passes = math.ceil(length / count)
        orders = [torch.randperm(count, generator=seeding.generator(seed, *purpose, p)) for p in range(passes)]
        self.order = torch.cat(orders)[:length]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Examples:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Examples:
        chosen = self.order[(torch.as_tensor(indices) + self.skip) % self.length]
        if len(self.parts) == 1:
            return self.parts[0].take(chosen)
        rows = [
            (chosen >= start) & (chosen < stop) for start, stop in zip(self.starts[:-1], self.starts[1:], strict=True)
        ]
        taken = [
            part.take(chosen[inside] - start)
            for part, inside, start in zip(self.parts, rows, self.starts[:-1], strict=True)
        ]
        first = taken[0]
        condition = _merged(rows, [part.condition for part in taken])
        assert isinstance(condition, dict)
        return Examples(
            _merged(rows, [part.state for part in taken]),
            condition,
            None if first.weight is None else _plain(rows, [p.weight for p in taken if p.weight is not None]),
            first.level,
            None if first.target is None else _merged(rows, [p.target for p in taken if p.target is not None]),
        )


class Resumed(DataLoader[Any]):
    """A loader whose data set knows where it goes on, which is what Lightning asks these methods for."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the number of steps says it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See above."""


def _merged(rows: Sequence[Tensor], parts: Sequence[State]) -> State:
    return apply(lambda *fields: _plain(rows, fields), parts[0], *parts[1:])


def _plain(rows: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    out = parts[0].new_empty((len(rows[0]), *parts[0].shape[1:]))
    for inside, part in zip(rows, parts, strict=True):
        out[inside] = part
    return out
