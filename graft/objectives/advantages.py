"""Rewards that are compared within their condition: advantages, with running statistics."""

from typing import Any

import torch
from torch import Tensor, nn

from graft.errors import GraftError


class AdvantageTracker(nn.Module):
    """(reward − mean) / deviation, of the draws of the same condition, in this and in former rounds.

    A condition's statistics are those of its last ``stat_buffer_size`` draws, or of this round's if they are more. A
    condition with fewer than ``stat_min_count`` draws takes those of all conditions of this round (Black et al.
    2023, section 5: statistics tracked for each prompt).

    Args:
        stat_buffer_size: Draws of a condition that are looked back on.
        stat_min_count: Draws from which on a condition has statistics of its own.
        clip: Largest advantage in either direction.
    """

    def __init__(self, stat_buffer_size: int = 64, stat_min_count: int = 16, clip: float = 5.0) -> None:
        super().__init__()
        for name, value in (("stat_buffer_size", stat_buffer_size), ("stat_min_count", stat_min_count)):
            if value < 0:
                raise GraftError(f"model.objective.{name} is {value}, but a number of draws cannot be negative")
        self.stat_buffer_size, self.stat_min_count, self.clip = stat_buffer_size, stat_min_count, clip
        self.history: dict[int, list[float]] = {}
        self.previous_history: dict[int, list[float]] = {}  # the last call

    def undo(self) -> None:
        """Forget the last call: it will be made again."""
        self.history = dict(self.previous_history)

    def forward(self, rewards: Tensor, groups: Tensor) -> Tensor:
        """(n,) advantages of finite rewards (n,) under the conditions ``groups`` (n,)."""
        self.previous_history = dict(self.history)
        rewards = rewards.double()
        everyone = _statistics(rewards)
        out = torch.zeros_like(rewards)
        for group in torch.unique(groups).tolist():
            inside = groups == group
            now = rewards[inside].tolist()
            known = (self.history.get(group, []) + now)[-max(self.stat_buffer_size, len(now)) :]
            self.history[group] = known[-self.stat_buffer_size :] if self.stat_buffer_size else []
            own = len(known) >= max(self.stat_min_count, 2)
            mean, deviation = _statistics(rewards.new_tensor(known)) if own else everyone
            if deviation > 0:  # where all are alike there is nothing to prefer
                out[inside] = (rewards[inside] - mean) / deviation
        return out.clamp(-self.clip, self.clip)

    def get_extra_state(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"former": self.history, "before": self.previous_history}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """From the checkpoint."""
        self.history, self.previous_history = dict(state["former"]), dict(state["before"])


def _statistics(rewards: Tensor) -> tuple[float, float]:
    return float(rewards.mean()), float(rewards.std()) if len(rewards) > 1 else 0.0
