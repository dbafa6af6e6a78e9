"""The winner of two."""

from torch import Tensor

from graft.accept.kl import cdf_intervals
from graft.accept.ranked import Ranked


class Preference(Ranked):
    """The winner of two, ties by a coin: a(F) = F, KL = log 2 − 1/2 for continuous rewards."""

    min_draws = 2

    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `AcceptanceRule.acceptance`: the share of the other draws that it beats."""
        low, high = cdf_intervals(rewards)
        n = len(rewards)
        middle = (low + high) / 2
        p = (middle * n - 0.5) / (n - 1) if n > 1 else middle
        return p, p

    def best(self, count: int) -> tuple[float, int]:
        """See `Ranked.best`: the best of two, and one alone wins against nobody half the time."""
        return (1, 2) if count > 1 else (0.5, 1)

    def __str__(self) -> str:
        return "winner of 2"
