"""The exponential tilt, by rejection under a fixed bound or by weights."""

from typing import Literal

import torch
from torch import Tensor

from graft.accept.base import Accept
from graft.errors import GraftError

RESAMPLES = 256
BLOCK = 2**22  # numbers in memory at once


class Tilt(Accept):
    """Exponential tilt: a = exp((r − maximum) / temperature), p* ∝ p_ref exp(r / temperature).

    Args:
        temperature: In the reward's unit.
        maximum: An upper bound of the reward, fixed in advance (the best draw's reward would make it another law).
            ``null``: every draw is kept and weighted by exp(r / temperature), normalised over its condition; the
            effective sample size then says how many the weights leave.
        scope: See `Accept`.
        deduplicate: See `Accept`.
        bin: See `Accept`.
    """

    def __init__(
        self,
        temperature: float,
        maximum: "float | None" = None,
        scope: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        bin: int = 32,
    ) -> None:
        super().__init__(scope, deduplicate, bin)
        if not temperature > 0:
            raise GraftError(f"temperature is {temperature:g}, but it must be positive")
        self.temperature, self.maximum = temperature, maximum

    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """See `Accept.law`."""
        if self.maximum is None:
            return torch.ones_like(rewards), self.weights(rewards)
        if bool((rewards > self.maximum).any()):
            raise GraftError(
                f"a reward of {float(rewards.max()):.6g} is above the stated maximum {self.maximum:g}: "
                "give a bound that holds, or maximum=null for weights"
            )
        a = ((rewards - self.maximum) / self.temperature).exp()
        return a, a

    def weights(self, rewards: Tensor) -> Tensor:
        """See `Accept.weights`."""
        if self.maximum is not None:
            return torch.ones_like(rewards)
        return len(rewards) * (rewards / self.temperature).softmax(0)

    def information(self, rewards: Tensor, drawn: int, usable: float) -> float:
        """See `Accept.information`.

        The weights of a group are normalised by its other draws, so a(x) is the mean weight of x over them. The mean of
        w log w is larger than that of a log a. The bootstrap estimates the difference: it replaces the other draws of
        each draw by draws from the group, `RESAMPLES` times.
        """
        if self.maximum is not None:
            return super().information(rewards, drawn, usable)
        n = len(rewards)
        size = (rewards / self.temperature - rewards.max() / self.temperature).exp()
        weight = n * size / size.sum()
        mean, information = torch.zeros(2, n, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)  # an estimate's own noise, the same in every process
        step = max(1, BLOCK // n)
        for first in range(0, RESAMPLES, step):
            times = min(step, RESAMPLES - first)
            drawn_anew = torch.randint(n, (times, n), generator=generator)
            counts = torch.zeros(times, n, dtype=torch.float64)
            counts.scatter_add_(1, drawn_anew, torch.ones_like(counts))
            others = (counts @ size)[:, None] - counts * size
            others *= (n - 1) / (n - counts).clamp(min=1)
            again = n * size / (size + others)
            mean += again.sum(0) / RESAMPLES
            information += torch.special.xlogy(again, again).sum(0) / RESAMPLES
        larger = information - torch.special.xlogy(mean, mean)
        return float((torch.special.xlogy(weight, weight) - larger).sum())

    def __str__(self) -> str:
        how = "weights" if self.maximum is None else f"maximum {self.maximum:.4g}"
        return f"exponential tilt at temperature {self.temperature:.4g} ({how})"
