"""Batches: what passes between the data and the model; requests for draws, and training examples."""

from graft.batches.draws import Draws, Weights
from graft.batches.examples import Examples

__all__ = ["Draws", "Examples", "Weights"]
