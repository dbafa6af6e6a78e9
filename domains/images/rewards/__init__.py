"""Rewards of pictures, one idea in each file."""

from domains.images.rewards.class_probability import ClassProbability
from domains.images.rewards.ink import Ink
from domains.images.rewards.jpeg import Compressibility, Incompressibility
from domains.images.rewards.on_tensors import OnTensors
from domains.images.rewards.symmetry import Symmetry

__all__ = ["ClassProbability", "Compressibility", "Incompressibility", "Ink", "OnTensors", "Symmetry"]
