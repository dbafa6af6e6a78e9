"""Judging a model by what it draws: reward and metrics of the same objects."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torchmetrics import Metric

from graft.reward import Reward


class Judge:
    """Collects objects, their rewards and metrics.

    Args:
        reward: Scores the objects; None where there is none (pre-training).
        metrics: By name.
    """

    def __init__(self, reward: "Reward | None", metrics: Mapping[str, Metric]) -> None:
        self.reward, self.metrics = reward, metrics
        self.items: list[Any] = []
        self.rewards: list[float] = []
        self.failures = 0
        self.denoiser_calls = 0

    def update(self, items: list[Any], denoiser_calls: int) -> None:
        """Take more objects, drawn with so many denoiser calls in all."""
        self.items += items
        self.denoiser_calls += denoiser_calls
        if self.reward is not None:
            scores = self.reward(items)
            self.rewards += scores.values
            self.failures += len(scores.failures)
        for metric in self.metrics.values():
            metric.update(items)

    def summary(self) -> dict[str, float]:
        """``reward`` with its standard error and deviation over the objects whose reward did not fail, and the metrics.

        NaN where there is nothing to average. A metric that gives several numbers has each as ``metric/part``.
        """
        out: dict[str, float] = {}
        if self.reward is not None:
            rewards = torch.tensor([r for r in self.rewards if not math.isnan(r)], dtype=torch.float64)
            std = float(rewards.std()) if len(rewards) > 1 else math.nan
            out |= {
                "reward": float(rewards.mean()) if len(rewards) else math.nan,
                "reward_stderr": std / math.sqrt(max(1, len(rewards))),
                "reward_std": std,
                "failed_rewards": float(self.failures),
            }
        out["n"] = float(len(self.items))
        for name, metric in self.metrics.items():
            value = metric.compute()
            if isinstance(value, dict):
                out |= {f"{name}/{part}": float(share) for part, share in value.items()}
            else:
                out[name] = float(value)
        return out
