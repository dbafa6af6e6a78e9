"""Samples: objects with their rewards, and what they cost."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Samples:
    """Objects that a model sampled, their rewards and the calls that they took.

    Attributes:
        items: (n,) objects.
        rewards: (n,) reward of each object, NaN where the reward failed; empty without a reward.
        denoiser_calls: Number of denoiser calls for all objects.
        reward_calls: Number of reward calls for all objects; a cached value takes none.
        failures: Number of failed rewards.
        calls_by_term: Number of calls of each reward that the reward is made of, by name.
    """

    items: list[Any]
    rewards: list[float] = field(default_factory=list)
    denoiser_calls: int = 0
    reward_calls: int = 0
    failures: int = 0
    calls_by_term: dict[str, int] = field(default_factory=dict)
