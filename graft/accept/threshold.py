"""The rule that accepts every draw above a threshold."""

from typing import Literal

from torch import Tensor
from typing_extensions import override

from graft.accept.base import AcceptanceRule


class Threshold(AcceptanceRule):
    """Every draw with a reward of at least ``minimum``; KL = −log P(r >= minimum).

    Args:
        minimum: Least accepted reward, in the reward's unit (of the negated reward where lower is better).
        group_by: ``condition`` ranks the draws of a condition, ``global`` the whole round.
        deduplicate: Keep one random draw of each key before the rule is applied.
    """

    def __init__(
        self, minimum: float, group_by: Literal["condition", "global"] = "condition", deduplicate: bool = False
    ) -> None:
        super().__init__(group_by, deduplicate, min_group_size=1)
        self.minimum = minimum

    @override
    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        a = (rewards >= self.minimum).double()
        return a, a

    def __str__(self) -> str:
        return f"reward >= {self.minimum:.4g}"
