"""Rounds: sample, score, filter and accept; each step is on disk, for resume and reuse."""

from graft.rounds.rollout_cache import RolloutCache
from graft.rounds.round_store import ACCEPTED, ALL, RoundStore, prune_round
from graft.rounds.summary import RoundSummary, accepted_csv, by_reason, condition_matched_mean, invalid_records_csv

__all__ = [
    "ACCEPTED",
    "ALL",
    "RolloutCache",
    "RoundStore",
    "RoundSummary",
    "accepted_csv",
    "by_reason",
    "condition_matched_mean",
    "invalid_records_csv",
    "prune_round",
]
