"""The exponential tilt, by rejection under a fixed bound or by weights."""

from typing import Literal

import torch
from torch import Tensor
from typing_extensions import override

from graft.accept.base import AcceptanceRule
from graft.core import limits
from graft.errors import GraftError

RESAMPLES = 256
"""Number of bootstrap samples."""

BLOCK = 2**22
"""Number of numbers in memory at once."""


class ExponentialTilt(AcceptanceRule):
    """Exponential tilt: a = exp((r − bound) / temperature), p* ∝ p_ref exp(r / temperature).

    Args:
        temperature: Temperature of the tilt, in the reward's unit.
        reward_bound: Upper bound of the reward, fixed in advance; the best draw's reward would change the accepted
            distribution. With ``null`` every draw is kept and weighted by exp(r / temperature), normalised over its
            condition, and the effective sample size states how many draws the weights amount to.
        group_by: ``condition`` ranks the draws of a condition, ``global`` the whole round.
        deduplicate: Keep one random draw of each key before the rule is applied.
        min_group_size: Number of draws below which a condition is joined with the next ones.

    Raises:
        GraftError: ``temperature`` is not positive.
    """

    def __init__(
        self,
        temperature: float,
        reward_bound: "float | None" = None,
        group_by: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        min_group_size: int = 32,
    ) -> None:
        super().__init__(group_by, deduplicate, min_group_size)
        limits.check("data.accept.temperature", temperature, 0, above=True)
        self.temperature, self.reward_bound = temperature, reward_bound

    @override
    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        if self.reward_bound is None:
            return torch.ones_like(rewards), self.weights(rewards)
        if bool((rewards > self.reward_bound).any()):
            raise GraftError(
                f"a reward is {float(rewards.max()):.6g}; it must be at most `reward_bound`, {self.reward_bound:g}. "
                "Give a larger bound, or reward_bound=null for weights"
            )
        a = ((rewards - self.reward_bound) / self.temperature).exp()
        return a, a

    @override
    def weights(self, rewards: Tensor) -> Tensor:
        if self.reward_bound is not None:
            return torch.ones_like(rewards)
        return len(rewards) * (rewards / self.temperature).softmax(0)

    @override
    def information(self, rewards: Tensor, drawn: int, usable: float) -> float:
        """Return the estimate; without a bound, by the bootstrap.

        The weights of a group are normalised by its other draws, so a(x) is the mean weight of x over them. The mean of
        w log w is larger than that of a log a. The bootstrap estimates the difference: it replaces the other draws of
        each draw by draws from the group, `RESAMPLES` times.
        """
        if self.reward_bound is not None:
            return super().information(rewards, drawn, usable)
        n = len(rewards)
        size = (rewards / self.temperature - rewards.max() / self.temperature).exp()
        weight = n * size / size.sum()
        mean, information = torch.zeros(2, n, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)  # the estimate is the same on every rank
        step = max(1, BLOCK // n)
        for first in range(0, RESAMPLES, step):
            times = min(step, RESAMPLES - first)
            resampled = torch.randint(n, (times, n), generator=generator)
            counts = torch.zeros(times, n, dtype=torch.float64)
            counts.scatter_add_(1, resampled, torch.ones_like(counts))
            others = (counts @ size)[:, None] - counts * size
            others *= (n - 1) / (n - counts).clamp(min=1)
            again = n * size / (size + others)
            mean += again.sum(0) / RESAMPLES
            information += torch.special.xlogy(again, again).sum(0) / RESAMPLES
        larger = information - torch.special.xlogy(mean, mean)
        return float((torch.special.xlogy(weight, weight) - larger).sum())

    def __str__(self) -> str:
        how = "weights" if self.reward_bound is None else f"bound {self.reward_bound:.4g}"
        return f"exponential tilt at temperature {self.temperature:.4g} ({how})"
