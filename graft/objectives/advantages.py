"""Advantages: rewards relative to other draws of the same condition."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from graft.core import limits


class AdvantageTracker(nn.Module):
    """(reward − mean) / deviation over the draws of a condition, in this and earlier rounds, or over those of a prefix.

    The statistics of a condition cover its last ``stat_buffer_size`` draws, or all its draws of this round if they are
    more. A condition with fewer than ``stat_min_count`` draws takes the statistics of all draws of this round (Black et
    al. 2023, section 5: statistics tracked for each prompt). Draws that share their first steps are compared with each
    other only (group-relative advantages, Shao et al. 2024, arXiv 2402.03300, section 4.1.1).

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
            limits.check(f"model.objective.{name}", value, 0)
        self.stat_buffer_size, self.stat_min_count, self.clip = stat_buffer_size, stat_min_count, clip
        self.history: dict[int, list[float]] = {}
        self.previous_history: dict[int, list[float]] = {}

    def undo(self) -> None:
        """Undo the last call, so that a resumed round can repeat it."""
        self.history = dict(self.previous_history)

    @override
    def forward(self, rewards: Tensor, groups: Tensor, prefix: "Tensor | None" = None) -> Tensor:
        """Return (n,) advantages of finite rewards (n,) under the conditions ``groups`` (n,).

        Args:
            rewards: Finite rewards, (n,).
            groups: Integer of the condition of each draw, (n,).
            prefix: Integer of the prefix that each draw shares with others, (n,); None if no draws share one. Earlier
                rounds then do not count, and a draw whose prefix has no other draw has advantage 0.
        """
        self.previous_history = dict(self.history)
        if prefix is not None:
            return _within(rewards, prefix, self.clip)
        order = torch.argsort(groups, stable=True)  # one sort: a mask for each group would take groups × draws steps
        sorted_rewards = rewards[order].double()
        names, counts = torch.unique(groups, return_counts=True)
        values = sorted_rewards.tolist()
        of_all = _statistics(values)
        statistics, start = [], 0
        for group, count in zip(names.tolist(), counts.tolist(), strict=True):
            now = values[start : start + count]
            start += count
            known = (self.history.get(group, []) + now)[-max(self.stat_buffer_size, count) :]
            self.history[group] = known[-self.stat_buffer_size :] if self.stat_buffer_size else []
            own = len(known) >= max(self.stat_min_count, 2)
            statistics.append(_statistics(known) if own else of_all)
        each = sorted_rewards.new_tensor(statistics).reshape(-1, 2)
        mean, deviation = each.repeat_interleave(counts.to(each.device), 0).unbind(1)
        advantages = (sorted_rewards - mean) / deviation.where(deviation > 0, math.inf)  # equal rewards: advantage 0
        out = torch.zeros_like(sorted_rewards)
        out[order] = advantages.clamp(-self.clip, self.clip)
        return out

    @override
    def get_extra_state(self) -> dict[str, Any]:
        return {"former": self.history, "before": self.previous_history}

    @override
    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.history, self.previous_history = dict(state["former"]), dict(state["before"])


def _within(rewards: Tensor, groups: Tensor, clip: float) -> Tensor:
    """Return advantages (n,) over the draws of each group, without those of other groups."""
    out = torch.zeros_like(rewards, dtype=torch.float64)
    order = torch.argsort(groups, stable=True)
    for rows in torch.split(order, torch.unique(groups, return_counts=True)[1].tolist()):
        mean, deviation = _statistics(rewards[rows].tolist())
        if deviation > 0:
            out[rows] = ((rewards[rows].double() - mean) / deviation).clamp(-clip, clip)
    return out


def _statistics(rewards: list[float]) -> tuple[float, float]:
    if len(rewards) < 2 or min(rewards) == max(rewards):  # rounding would give equal rewards a deviation
        return (rewards[0] if rewards else math.nan), 0.0
    mean = math.fsum(rewards) / len(rewards)
    return mean, math.sqrt(math.fsum((reward - mean) ** 2 for reward in rewards) / (len(rewards) - 1))
