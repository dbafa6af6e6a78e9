"""Evaluation of a model by its samples: the reward and the metrics of the same objects."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torchmetrics import Metric

from graft.core.distributed import disable_sync, gather_dict
from graft.domain import hooks
from graft.evaluation.samples import Samples
from graft.reward import Reward, Scores, score_objects


class SampleEvaluator:
    """Collects objects, their rewards and metrics.

    Args:
        reward: Reward of the objects; None if there is none, as in pre-training.
        metrics: Metrics by name.
    """

    def __init__(self, reward: "Reward | None", metrics: Mapping[str, Metric]) -> None:
        self.reward = reward
        self.metrics = {name: disable_sync(metric) for name, metric in metrics.items()}
        self.parts: dict[int, Samples] = {}
        self._values: dict[str, float] | None = None
        self._gathered = False

    def update(self, items: list[Any], denoiser_calls: int, number: "int | None" = None) -> None:
        """Add the objects of one request and score them.

        Args:
            items: The objects.
            denoiser_calls: Number of denoiser calls for all objects together.
            number: Number of the request; objects are kept in the order of the requests. The next number if None.
        """
        scores = score_objects(self.reward, items) if self.reward is not None else Scores([])
        number = len(self.parts) if number is None else number
        self.parts[number] = Samples(
            items, scores.values, denoiser_calls, scores.reward_calls, len(scores.failures), dict(scores.calls or {})
        )
        self._values, self._gathered = None, False

    def gather(self, trainer: Any) -> None:
        """Collect the objects of all ranks; every rank calls this."""
        if not self._gathered:
            self.parts, self._values, self._gathered = gather_dict(trainer, self.parts), None, True

    @property
    def items(self) -> list[Any]:
        """The objects."""
        return [item for part in self.parts.values() for item in part.items]

    @property
    def rewards(self) -> list[float]:
        """Reward of each object, NaN where the reward failed; empty without a reward."""
        return [reward for part in self.parts.values() for reward in part.rewards]

    @property
    def failures(self) -> int:
        """Number of failed rewards."""
        return sum(part.failures for part in self.parts.values())

    @property
    def denoiser_calls(self) -> int:
        """Number of denoiser calls for all objects."""
        return sum(part.denoiser_calls for part in self.parts.values())

    @property
    def reward_calls(self) -> int:
        """Number of reward calls; a cached value takes none."""
        return sum(part.reward_calls for part in self.parts.values())

    @property
    def calls_by_term(self) -> dict[str, int]:
        """Number of calls of each reward that the reward is made of, by name."""
        return dict(sum((Counter(part.calls_by_term) for part in self.parts.values()), Counter[str]()))

    def summary(self) -> dict[str, float]:
        """Return the mean reward with its standard error and deviation, and the metrics, by name.

        The reward is averaged over the objects without a failure. A value is NaN if there is nothing to average. A
        metric that gives several numbers has each number under ``metric/part``.
        """
        if self._values is None:
            self._values = self._compute()
        return dict(self._values)

    def _compute(self) -> dict[str, float]:
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
