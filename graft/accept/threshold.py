"""Every draw that is good enough."""

from typing import Literal

from torch import Tensor

from graft.accept.base import Accept


class Threshold(Accept):
    """Every draw with a reward of at least ``minimum``; KL = −log P(r >= minimum).

    Args:
        minimum: In the reward's unit (of the negated reward where smaller is better).
        scope: See `Accept`.
        deduplicate: See `Accept`.
    """

    def __init__(
        self, minimum: float, scope: Literal["condition", "global"] = "condition", deduplicate: bool = False
    ) -> None:
        super().__init__(scope, deduplicate, bin=1)
        self.minimum = minimum

    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `Accept.law`."""
        a = (rewards >= self.minimum).double()
        return a, a

    def __str__(self) -> str:
        return f"reward >= {self.minimum:.4g}"
