"""The exponential tilt, by rejection under a fixed bound or by weights."""

from typing import Literal

import torch
from torch import Tensor

from graft.accept.base import Accept
from graft.errors import GraftError


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

    def __str__(self) -> str:
        how = "weights" if self.maximum is None else f"maximum {self.maximum:.4g}"
        return f"exponential tilt at temperature {self.temperature:.4g} ({how})"
