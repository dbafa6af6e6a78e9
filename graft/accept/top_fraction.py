"""The rule that accepts the best share of the draws."""

from typing import Literal

from torch import Tensor
from typing_extensions import override

from graft.accept.kl import cdf_intervals
from graft.accept.ranked import Ranked
from graft.core import limits


class TopFraction(Ranked):
    """The best share of the draws of each condition; a(F) tends to 1[F >= 1 − fraction].

    Args:
        fraction: Share of accepted draws, in (0, 1].
        group_by: ``condition`` ranks the draws of a condition, ``global`` the whole round.
        deduplicate: Keep one random draw of each key before the rule is applied.
        min_group_size: Number of draws below which a condition is joined with the next ones.

    Raises:
        GraftError: ``fraction`` is out of its range.
    """

    def __init__(
        self,
        fraction: float = 0.125,
        group_by: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        min_group_size: int = 32,
    ) -> None:
        super().__init__(group_by, deduplicate, min_group_size)
        limits.check("data.accept.fraction", fraction, 0, 1, above=True)
        self.fraction = fraction

    @override
    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        low, high = cdf_intervals(rewards)
        p = ((high - (1 - self.fraction)) / (high - low)).clamp(0, 1)
        return p, p

    @override
    def best(self, count: int) -> tuple[float, int]:
        """Return (K, M); with K below 1, the best draw of a group is accepted with probability K."""
        return self.fraction * count, count

    def __str__(self) -> str:
        return f"top {self.fraction:.4g}"
