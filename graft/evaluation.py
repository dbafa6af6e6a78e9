"""Judging a model by what it draws: reward and metrics of the same objects."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torchmetrics import Metric

from graft import hooks
from graft.distributed import disable_sync, gather_dict
from graft.reward import Reward, Scores, ask


@dataclass
class EvaluatedBatch:
    """Objects of one request, what their reward said, and the denoiser calls and reward calls they took."""

    items: list[Any]
    rewards: list[float]
    failures: int
    denoiser_calls: int
    reward_calls: int = 0
    calls_by_term: dict[str, int] = field(default_factory=dict)


class SampleEvaluator:
    """Collects objects, their rewards and metrics.

    Args:
        reward: Scores the objects; None where there is none (pre-training).
        metrics: By name.
    """

    def __init__(self, reward: "Reward | None", metrics: Mapping[str, Metric]) -> None:
        self.reward = reward
        self.metrics = {name: disable_sync(metric) for name, metric in metrics.items()}
        self.parts: dict[int, EvaluatedBatch] = {}
        self._found: dict[str, float] | None = None
        self._gathered = False

    def update(self, items: list[Any], denoiser_calls: int, number: "int | None" = None) -> None:
        """Take more objects, drawn with so many denoiser calls in all.

        Args:
            items: The objects.
            denoiser_calls: Of all of them.
            number: Of the request, in whose order the objects are kept; the next one if not given.
        """
        scores = ask(self.reward, items) if self.reward is not None else Scores([])
        number = len(self.parts) if number is None else number
        calls = scores.calls or {}
        self.parts[number] = EvaluatedBatch(
            items, scores.values, len(scores.failures), denoiser_calls, scores.asked, dict(calls)
        )
        self._found, self._gathered = None, False

    def gather(self, trainer: Any) -> None:
        """Have what all processes judged; every process calls this."""
        if not self._gathered:
            self.parts, self._found, self._gathered = gather_dict(trainer, self.parts), None, True

    @property
    def items(self) -> list[Any]:
        """The objects."""
        return [item for part in self.parts.values() for item in part.items]

    @property
    def rewards(self) -> list[float]:
        """Of each, NaN where it failed; empty without a reward."""
        return [reward for part in self.parts.values() for reward in part.rewards]

    @property
    def failures(self) -> int:
        """Rewards that failed."""
        return sum(part.failures for part in self.parts.values())

    @property
    def denoiser_calls(self) -> int:
        """That the objects took."""
        return sum(part.denoiser_calls for part in self.parts.values())

    @property
    def reward_calls(self) -> int:
        """Number of objects whose reward was called, not remembered."""
        return sum(part.reward_calls for part in self.parts.values())

    @property
    def calls_by_term(self) -> dict[str, int]:
        """Number of calls of each reward that the reward is made of, by name."""
        return dict(sum((Counter(part.calls_by_term) for part in self.parts.values()), Counter[str]()))

    def summary(self) -> dict[str, float]:
        """``reward`` with its standard error and deviation over the objects whose reward did not fail, and the metrics.

        NaN where there is nothing to average. A metric that gives several numbers has each as ``metric/part``.
        """
        if self._found is None:
            self._found = self._summarised()
        return dict(self._found)

    def _summarised(self) -> dict[str, float]:
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
            metric.reset()
            for part in self.parts.values():
                hooks.update(metric, name, part.items)
            value = hooks.compute(metric, name)
            if isinstance(value, dict):
                out |= {f"{name}/{part}": share for part, share in value.items()}
            else:
                out[name] = value
        return out
