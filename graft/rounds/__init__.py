"""Rounds of rollouts: where their samples come from, what they are scored, and all of it on disk, to be found again."""

from graft.rounds.rollout_cache import RolloutCache
from graft.rounds.round_store import ACCEPTED, ALL, Chunk, RoundStore, prune_round
from graft.rounds.summary import RoundSummary, accepted_csv, condition_matched_mean, invalid_records_csv

__all__ = [
    "ACCEPTED",
    "ALL",
    "Chunk",
    "RolloutCache",
    "RoundStore",
    "RoundSummary",
    "accepted_csv",
    "condition_matched_mean",
    "invalid_records_csv",
    "prune_round",
]
