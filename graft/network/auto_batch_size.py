"""A network that does not fit the memory with a whole batch is called with parts of it.

Sampling is where batches are large and gradients are not kept, so that the network's own activations are what takes
memory. A batch that does not fit is halved for the network alone: the noise is still drawn for the whole batch, so the
draws are those of the whole batch, up to how sums are rounded in batches of another size.
"""

import torch
from torch import Tensor

from graft.errors import GraftError
from graft.process import Model, checked
from graft.state import Condition, State, cat, size, take


class AutoBatchSize:
    """Finds how many rows the memory holds, and keeps to it.

    Args:
        frozen: All processes call the network together as often: nobody may call it more often than others.
    """

    def __init__(self, fixed: bool = False) -> None:
        self.frozen = fixed
        self.max_rows: int | None = None  # the most that fit; None: no batch was too large

    def __call__(self, model: Model) -> Model:
        """``model``, in parts where it has to be."""

        def fitted(state: State, time: Tensor, condition: Condition) -> State:
            count = size(state)
            while True:
                rows = min(count, self.max_rows or count)
                try:
                    if rows == count:
                        return model(state, time, condition)
                    parts = [slice(start, start + rows) for start in range(0, count, rows)]
                    return cat([_part(model, state, time, condition, rows) for rows in parts])
                except torch.OutOfMemoryError:
                    pass  # beyond this block, so that the error no longer holds the tensors of the call
                self._halve(rows)

        return fitted

    def _halve(self, rows: int) -> None:
        if rows == 1 or self.frozen:
            what = "one draw at a time" if rows == 1 else f"{rows} draws at a time on processes that share the network"
            raise GraftError(f"out of memory with {what}: " + ("lower data.batch_size" if rows > 1 else SMALLER))
        self.max_rows = rows // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(
            f"graft: out of memory with {rows} draws at a time: going on with {self.max_rows}; the draws are those of "
            "the "
            "whole batch",
            flush=True,
        )


SMALLER = "the network needs a device with more memory, or a lower trainer.precision"


def _part(model: Model, state: State, time: Tensor, condition: Condition, rows: slice) -> State:
    some = take(condition, rows)
    assert isinstance(some, dict)
    given = take(state, rows)
    return checked(model(given, time[rows], some), given)
