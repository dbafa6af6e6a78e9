"""The best share of the draws."""

from typing import Literal

from torch import Tensor

from graft.accept.kl import cdf_intervals
from graft.accept.ranked import Ranked
from graft.errors import GraftError


class TopFraction(Ranked):
    """The best share of the draws of each condition; a(F) tends to 1[F >= 1 − fraction].

    Args:
        fraction: In (0, 1].
        group_by: See `AcceptanceRule`.
        deduplicate: See `AcceptanceRule`.
        min_group_size: See `AcceptanceRule`.
    """

    def __init__(
        self,
        fraction: float = 0.125,
        group_by: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        min_group_size: int = 32,
    ) -> None:
        super().__init__(group_by, deduplicate, min_group_size)
        if not 0 < fraction <= 1:
            raise GraftError(f"fraction is {fraction:g}, but a share of the draws lies in (0, 1]")
        self.fraction = fraction

    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `AcceptanceRule.acceptance`."""
        low, high = cdf_intervals(rewards)
        p = ((high - (1 - self.fraction)) / (high - low)).clamp(0, 1)
        return p, p

    def best(self, count: int) -> tuple[float, int]:
        """See `Ranked.best`: below one of a group, the best draw is accepted now and then."""
        return self.fraction * count, count

    def __str__(self) -> str:
        return f"top {self.fraction:.4g}"
