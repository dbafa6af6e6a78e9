"""The rule that accepts the best K of every M draws."""

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from graft.accept.kl import cdf_intervals, log_choose
from graft.accept.ranked import Ranked
from graft.core import limits


class TopK(Ranked):
    """The best ``keep`` of every ``draws`` draws: a(F) = P(Binomial(draws − 1, 1 − F) < keep).

    Where a condition has more draws than ``draws``, the probability of a draw is a share of all groups of that size
    that contain the draw: the share with the draw among the best. So every draw takes part.

    Args:
        keep: Number K of accepted draws.
        draws: Number M of draws from which they are accepted.
        group_by: ``condition`` ranks the draws of a condition, ``global`` the whole round.
        deduplicate: Keep one random draw of each key before the rule is applied.
        min_group_size: Number of draws below which a condition is joined with the next ones.

    Raises:
        GraftError: ``keep`` is not between 1 and ``draws``.
    """

    def __init__(
        self,
        keep: int = 1,
        draws: int = 8,
        group_by: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        min_group_size: int = 1,
    ) -> None:
        super().__init__(group_by, deduplicate, min_group_size)
        limits.check("data.accept.keep", keep, 1, draws)
        self.keep, self.draws, self.min_draws = keep, draws, draws

    @override
    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        n = len(rewards)
        draws = min(self.draws, n)  # where rewards failed, the rest is ranked
        # by_rank[j]: probability that a draw with j draws above it is among the best K of a random group of M with it
        above = torch.arange(n, dtype=torch.float64)
        by_rank = torch.zeros(n, dtype=torch.float64)
        whole = log_choose(above.new_tensor(n - 1), draws - 1)
        for k in range(min(self.keep, draws)):
            below = n - 1 - above
            possible = (above >= k) & (below >= draws - 1 - k)
            term = log_choose(above, k) + log_choose(below, draws - 1 - k) - whole
            by_rank += torch.where(possible, term.exp(), 0.0)
        low, high = cdf_intervals(rewards)
        total = torch.cat([by_rank.new_zeros(1), by_rank.flip(0).cumsum(0)])  # sums over the ranks from below
        first, last = (low * n).round().long(), (high * n).round().long()
        p = ((total[last] - total[first]) / (last - first)).clamp(0, 1)
        return p, p

    @override
    def best(self, count: int) -> tuple[float, int]:
        return min(self.keep, count), min(self.draws, count)

    def __str__(self) -> str:
        return f"top {self.keep} of {self.draws}"
