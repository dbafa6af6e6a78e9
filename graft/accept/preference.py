"""The rule that accepts the winner of two draws."""

from torch import Tensor
from typing_extensions import override

from graft.accept.kl import cdf_intervals
from graft.accept.ranked import Ranked


class Preference(Ranked):
    """The winner of two, ties by a coin: a(F) = F, KL = log 2 − 1/2 for continuous rewards.

    It differs from ``TopK(keep=1, draws=2)`` in a group with one usable draw, which it accepts with probability 1/2 and
    not 1, since a draw without an opponent has not won.
    """

    min_draws = 2

    @override
    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (n,) share of the other draws with a lower reward; ties count half."""
        low, high = cdf_intervals(rewards)
        n = len(rewards)
        middle = (low + high) / 2
        p = (middle * n - 0.5) / (n - 1) if n > 1 else middle
        return p, p

    @override
    def best(self, count: int) -> tuple[float, int]:
        return (1, 2) if count > 1 else (0.5, 1)

    def __str__(self) -> str:
        return "winner of 2"
