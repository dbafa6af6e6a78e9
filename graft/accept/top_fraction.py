"""The best share of the draws."""

from typing import Literal

from torch import Tensor

from graft.accept.laws import intervals
from graft.accept.ranked import Ranked
from graft.errors import GraftError


class TopFraction(Ranked):
    """The best share of the draws of each condition; a(F) tends to 1[F >= 1 − fraction].

    Args:
        fraction: In (0, 1].
        scope: See `Accept`.
        deduplicate: See `Accept`.
        bin: See `Accept`.
    """

    def __init__(
        self,
        fraction: float = 0.125,
        scope: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        bin: int = 32,
    ) -> None:
        super().__init__(scope, deduplicate, bin)
        if not 0 < fraction <= 1:
            raise GraftError(f"fraction is {fraction:g}, but a share of the draws lies in (0, 1]")
        self.fraction = fraction

    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `Accept.law`."""
        low, high = intervals(rewards)
        p = ((high - (1 - self.fraction)) / (high - low)).clamp(0, 1)
        return p, p

    def best(self, count: int) -> tuple[float, int]:
        """See `Ranked.best`: below one of a group, the best draw is accepted now and then."""
        return self.fraction * count, count

    def __str__(self) -> str:
        return f"top {self.fraction:.4g}"
