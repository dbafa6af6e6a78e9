"""Rewards: what scores decoded objects, one number each; any Python callable is one."""

from graft.reward.base import Batched, Reward, Scores, ask, bounded, by_term, finite, leaves, reason
from graft.reward.cached import Cached
from graft.reward.function import Function, Scorer, Scoring, resolve, scorer
from graft.reward.weighted import Combined, Weighted

__all__ = [
    "Batched",
    "Cached",
    "Combined",
    "Function",
    "Reward",
    "Scorer",
    "Scores",
    "Scoring",
    "Weighted",
    "ask",
    "bounded",
    "by_term",
    "finite",
    "leaves",
    "reason",
    "resolve",
    "scorer",
]
