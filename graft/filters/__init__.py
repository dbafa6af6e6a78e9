"""Filters: which of a round's draws the acceptance rule may choose from, given what earlier rounds accepted.

De-duplication within a round is the rule's own (`graft.accept.AcceptanceRule`); a filter looks further: at earlier
rounds, at the training data, at draws that are nearly alike. Each is a pure function of the round's draws and of what
the rounds on disk say was accepted, so that a run that goes on refuses what it would have refused.
"""

from graft.filters.apply import check_requirements, filter_round
from graft.filters.base import AcceptedHistory, Candidates, Filter, apply_filters
from graft.filters.memory import Memory
from graft.filters.novelty import Novelty
from graft.filters.similarity import Similarity

__all__ = [
    "AcceptedHistory",
    "Candidates",
    "Filter",
    "Memory",
    "Novelty",
    "Similarity",
    "apply_filters",
    "check_requirements",
    "filter_round",
]
