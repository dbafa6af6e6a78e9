"""Rewards that are compared within their condition: advantages, with running statistics."""

from typing import Any

import torch
from torch import Tensor, nn

from graft.errors import GraftError


class Advantages(nn.Module):
    """(reward − mean) / deviation, of the draws of the same condition, in this and in former rounds.

    A condition's statistics are those of its last ``memory`` draws, this round's included and never fewer than those.
    A condition with fewer than ``least`` has this round's of all conditions (Black et al. 2023, section 5: statistics
    tracked for each prompt).

    Args:
        memory: Draws of a condition that are looked back on.
        least: Draws from which on a condition has statistics of its own.
        clip: Largest advantage in either direction.
    """

    def __init__(self, memory: int = 64, least: int = 16, clip: float = 5.0) -> None:
        super().__init__()
        for name, value in (("memory", memory), ("least", least)):
            if value < 0:
                raise GraftError(f"model.objective.{name} is {value}, but a number of draws cannot be negative")
        self.memory, self.least, self.clip = memory, least, clip
        self.former: dict[int, list[float]] = {}
        self.before: dict[int, list[float]] = {}  # the last call

    def again(self) -> None:
        """Forget the last call: it will be made again."""
        self.former = dict(self.before)

    def forward(self, rewards: Tensor, groups: Tensor) -> Tensor:
        """(n,) advantages of finite rewards (n,) under the conditions ``groups`` (n,)."""
        self.before = dict(self.former)
        rewards = rewards.double()
        everyone = _statistics(rewards)
        out = torch.zeros_like(rewards)
        for group in torch.unique(groups).tolist():
            inside = groups == group
            now = rewards[inside].tolist()
            known = (self.former.get(group, []) + now)[-max(self.memory, len(now)) :]
            self.former[group] = known[-self.memory :] if self.memory else []
            own = len(known) >= max(self.least, 2)
            mean, deviation = _statistics(rewards.new_tensor(known)) if own else everyone
            if deviation > 0:  # where all are alike there is nothing to prefer
                out[inside] = (rewards[inside] - mean) / deviation
        return out.clamp(-self.clip, self.clip)

    def get_extra_state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"former": self.former, "before": self.before}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.former, self.before = dict(state["former"]), dict(state["before"])


def _statistics(rewards: Tensor) -> tuple[float, float]:
    return float(rewards.mean()), float(rewards.std()) if len(rewards) > 1 else 0.0
