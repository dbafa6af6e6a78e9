"""The rule that accepts the winner of two draws."""

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from graft.accept.top_k import TopK


class Preference(TopK):
    """The winner of two, ties by a coin: a(F) = F, KL = log 2 − 1/2 for continuous rewards.

    It is ``TopK(keep=1, draws=2)``, but it accepts the only usable draw of a group with probability 1/2 and not 1,
    since a draw without an opponent has not won.

    Args:
        group_by: ``condition`` compares draws of one condition, ``global`` all draws of the round.
        deduplicate: Keep one random draw of each key before the rule is applied.
        min_group_size: Number of draws below which a condition is joined with the next ones.
    """

    def __init__(
        self,
        group_by: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        min_group_size: int = 32,
    ) -> None:
        super().__init__(1, 2, group_by, deduplicate, min_group_size)

    @override
    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        if len(rewards) > 1:
            return super().acceptance(rewards)
        p = torch.full((len(rewards),), 0.5, dtype=torch.float64)
        return p, p

    @override
    def best(self, count: int) -> tuple[float, int]:
        return super().best(count) if count > 1 else (0.5, 1)

    def __str__(self) -> str:
        return "winner of 2"
