"""Rounds of rollouts: where their samples come from, what they are scored, and all of it on disk, to be found again."""

from graft.rounds.account import Account, left_out, matched, table
from graft.rounds.round import ACCEPTED, ALL, Chunk, Round, forget
from graft.rounds.store import Store

__all__ = ["ACCEPTED", "ALL", "Account", "Chunk", "Round", "Store", "forget", "left_out", "matched", "table"]
