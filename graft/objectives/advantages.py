"""Advantages: rewards relative to other draws of the same condition."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from graft.errors import GraftError


class AdvantageTracker(nn.Module):
    """(reward − mean) / deviation over the draws of a condition, in this and earlier rounds.

    The statistics of a condition cover its last ``stat_buffer_size`` draws, or all its draws of this round if they are
    more. A condition with fewer than ``stat_min_count`` draws takes the statistics of all draws of this round (Black et
    al. 2023, section 5: statistics tracked for each prompt).

    Args:
        stat_buffer_size: Number of last draws of a condition in its statistics.
        stat_min_count: Smallest number of draws from which a condition has its own statistics.
        clip: Largest absolute advantage.

    Attributes:
        history: Last rewards of each condition.
        previous_history: Value of ``history`` before the last call.
    """

    def __init__(self, stat_buffer_size: int = 64, stat_min_count: int = 16, clip: float = 5.0) -> None:
        super().__init__()
        for name, value in (("stat_buffer_size", stat_buffer_size), ("stat_min_count", stat_min_count)):
            if value < 0:
                raise GraftError(f"model.objective.{name} is {value}; it must be at least 0")
        self.stat_buffer_size, self.stat_min_count, self.clip = stat_buffer_size, stat_min_count, clip
        self.history: dict[int, list[float]] = {}
        self.previous_history: dict[int, list[float]] = {}

    def undo(self) -> None:
        """Undo the last call, so that a resumed round can repeat it."""
        self.history = dict(self.previous_history)

    @override
    def forward(self, rewards: Tensor, groups: Tensor) -> Tensor:
        """Return (n,) advantages of finite rewards (n,) under the conditions ``groups`` (n,)."""
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
            if deviation > 0:  # equal rewards have advantage 0
                out[inside] = (rewards[inside] - mean) / deviation
        return out.clamp(-self.clip, self.clip)

    @override
    def get_extra_state(self) -> dict[str, Any]:
        return {"former": self.history, "before": self.previous_history}

    @override
    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.history, self.previous_history = dict(state["former"]), dict(state["before"])


def _statistics(rewards: Tensor) -> tuple[float, float]:
    return float(rewards.mean()), float(rewards.std()) if len(rewards) > 1 else 0.0
