"""Rewards of pictures, one idea in each file."""

from domains.images.rewards.brightness import Brightness
from domains.images.rewards.class_probability import ClassProbability
from domains.images.rewards.clip_score import CLIPScore
from domains.images.rewards.jpeg import Compressibility, Incompressibility
from domains.images.rewards.on_tensors import TensorFunction
from domains.images.rewards.pick_score import PickScore
from domains.images.rewards.symmetry import Symmetry
from domains.images.rewards.vqa_score import VQAScore

__all__ = [
    "Brightness",
    "CLIPScore",
    "ClassProbability",
    "Compressibility",
    "Incompressibility",
    "PickScore",
    "Symmetry",
    "TensorFunction",
    "VQAScore",
]
