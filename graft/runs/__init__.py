"""Runs: their folders, and which of them goes on; checkpoints, metrics, and what stops a run between two steps."""

from graft.runs.contents import refuse_foreign, refuse_linked_round, refuse_links, remove_temporary, withdrawn
from graft.runs.folders import ELSEWHERE, choose, differing, flat, make, recorded, weights_file

__all__ = [
    "ELSEWHERE",
    "choose",
    "differing",
    "flat",
    "make",
    "recorded",
    "refuse_foreign",
    "refuse_linked_round",
    "refuse_links",
    "remove_temporary",
    "weights_file",
    "withdrawn",
]
