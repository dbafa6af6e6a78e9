"""The winner of two."""

from torch import Tensor

from graft.accept.base import Accept
from graft.accept.laws import intervals


class Preference(Accept):
    """The winner of two, ties by a coin: a(F) = F, KL = log 2 − 1/2 for continuous rewards."""

    smallest = 2

    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `Accept.law`: the share of the other draws that it beats."""
        low, high = intervals(rewards)
        n = len(rewards)
        middle = (low + high) / 2
        return (middle * n - 0.5) / (n - 1) if n > 1 else middle, middle

    def __str__(self) -> str:
        return "winner of 2"
