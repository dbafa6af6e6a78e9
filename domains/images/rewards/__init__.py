"""Rewards of pictures, one idea in each file."""

from domains.images.rewards.class_probability import ClassProbability
from domains.images.rewards.clip_score import CLIPScore
from domains.images.rewards.ink import Ink
from domains.images.rewards.jpeg import Compressibility, Incompressibility
from domains.images.rewards.on_tensors import OnTensors
from domains.images.rewards.pick_score import PickScore
from domains.images.rewards.symmetry import Symmetry
from domains.images.rewards.vqa_score import VQAScore

__all__ = [
    "CLIPScore",
    "ClassProbability",
    "Compressibility",
    "Incompressibility",
    "Ink",
    "OnTensors",
    "PickScore",
    "Symmetry",
    "VQAScore",
]
