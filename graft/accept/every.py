"""No selection."""

import torch
from torch import Tensor

from graft.accept.base import Accept


class All(Accept):
    """Every draw whose reward did not fail: no selection (the control), or de-duplication alone."""

    selects = False

    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `Accept.law`."""
        return torch.ones_like(rewards), torch.ones_like(rewards)

    def __str__(self) -> str:
        return "all"
