"""Every draw that is good enough."""

from typing import Literal

from torch import Tensor

from graft.accept.base import AcceptanceRule


class Threshold(AcceptanceRule):
    """Every draw with a reward of at least ``minimum``; KL = −log P(r >= minimum).

    Args:
        minimum: In the reward's unit (of the negated reward where smaller is better).
        group_by: See `AcceptanceRule`.
        deduplicate: See `AcceptanceRule`.
    """

    def __init__(
        self, minimum: float, group_by: Literal["condition", "global"] = "condition", deduplicate: bool = False
    ) -> None:
        super().__init__(group_by, deduplicate, min_group_size=1)
        self.minimum = minimum

    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `AcceptanceRule.acceptance`."""
        a = (rewards >= self.minimum).double()
        return a, a

    def __str__(self) -> str:
        return f"reward >= {self.minimum:.4g}"
