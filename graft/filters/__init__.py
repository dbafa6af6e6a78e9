"""Filters: they remove draws of a round before the acceptance rule chooses.

The rule itself de-duplicates within a round (`graft.accept.AcceptanceRule`). A filter also compares with earlier
rounds, with the training data, and with similar draws. It is a pure function of the round's draws and of the accepted
draws of the rounds on disk, so a resumed run filters the same draws.
"""

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
]
