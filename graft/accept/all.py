"""No selection."""

import torch
from torch import Tensor

from graft.accept.base import AcceptanceRule


class AcceptAll(AcceptanceRule):
    """Every draw whose reward did not fail: no selection (the control), or de-duplication alone."""

    is_selective = False

    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `AcceptanceRule.acceptance`."""
        return torch.ones_like(rewards), torch.ones_like(rewards)

    def __str__(self) -> str:
        return "all"
