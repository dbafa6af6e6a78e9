"""Calls of a network with parts of a batch, where the whole batch does not fit the memory.

In sampling, batches are large and gradients are not kept, so the network's activations take the memory. A batch that
does not fit is halved for the network alone. The noise is still drawn for the whole batch, so the draws are those of
the whole batch, up to rounding in batches of another size.
"""

import torch
from torch import Tensor

from graft.core.state import Condition, State, cat, size, take
from graft.errors import GraftError
from graft.process import Model, check_output


class AutoBatchSize:
    """A wrapper of networks that finds the number of rows that fit the memory.

    Args:
        fixed: Never split the batch; sharded networks need the same number of calls on every rank.

    Attributes:
        frozen: True if the batch is never split.
        max_rows: Number of rows that fit; None if no batch was too large.
    """

    def __init__(self, fixed: bool = False) -> None:
        self.frozen = fixed
        self.max_rows: int | None = None

    def __call__(self, model: Model) -> Model:
        """Return ``model``, called in parts where a batch does not fit.

        Raises:
            GraftError: One row does not fit, or the batch may not be split.
        """

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
                    pass
                # outside the block above, where the error holds the tensors of the call
                self._halve(rows)

        return fitted

    def _halve(self, rows: int) -> None:
        if rows == 1:
            raise GraftError(f"out of memory with one draw at a time: {SMALLER}")
        if self.frozen:
            raise GraftError(
                f"out of memory with {rows} draws at a time on ranks that share the network: lower data.batch_size"
            )
        self.max_rows = rows // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(
            f"graft: out of memory with {rows} draws at a time: the network now gets {self.max_rows}; the draws are "
            "those of the whole batch",
            flush=True,
        )


SMALLER = "the network needs a device with more memory, or a lower trainer.precision"


def _part(model: Model, state: State, time: Tensor, condition: Condition, rows: slice) -> State:
    part = take(state, rows)
    return check_output(model(part, time[rows], take(condition, rows)), part)
