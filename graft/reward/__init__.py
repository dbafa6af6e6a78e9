"""Rewards: what scores decoded objects, one number each; any Python callable is one."""

from graft.reward.base import Batched, Reward, Scores, finite, reason
from graft.reward.cached import Cached
from graft.reward.function import Function, resolve
from graft.reward.weighted import Combined, Weighted

__all__ = ["Batched", "Cached", "Combined", "Function", "Reward", "Scores", "Weighted", "finite", "reason", "resolve"]
