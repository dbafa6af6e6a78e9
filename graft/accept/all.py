"""The rule that accepts every draw."""

import torch
from torch import Tensor
from typing_extensions import override

from graft.accept.base import AcceptanceRule


class AcceptAll(AcceptanceRule):
    """Every draw with a reward: no selection (the control), or de-duplication alone."""

    is_selective = False

    @override
    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(rewards), torch.ones_like(rewards)

    def __str__(self) -> str:
        return "all"
