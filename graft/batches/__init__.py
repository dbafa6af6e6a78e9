"""Batches: what passes between the data and the model; requests for draws, and training examples."""

from graft.batches.examples import TrainingBatch
from graft.batches.requests import SampleRequest, Weights

__all__ = ["SampleRequest", "TrainingBatch", "Weights"]
