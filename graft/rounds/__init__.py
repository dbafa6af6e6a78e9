"""Rounds: sample, score, filter and accept; each step is on disk, for resume and reuse."""

from graft.rounds.rollout_cache import RolloutCache
from graft.rounds.round_store import ACCEPTED, ALL, RoundStore, prune_round
from graft.rounds.summary import RoundSummary

__all__ = [
    "ACCEPTED",
    "ALL",
    "RolloutCache",
    "RoundStore",
    "RoundSummary",
    "prune_round",
]
