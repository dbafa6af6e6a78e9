"""Rewards of pictures, one idea in each file."""

from domains.images.rewards.aesthetic import AestheticScore
from domains.images.rewards.brightness import Brightness
from domains.images.rewards.caption_match import CaptionMatch
from domains.images.rewards.class_probability import ClassProbability
from domains.images.rewards.clip_score import CLIPScore
from domains.images.rewards.hps import HPSv2
from domains.images.rewards.image_reward import ImageReward
from domains.images.rewards.jpeg import Compressibility, Incompressibility
from domains.images.rewards.on_tensors import TensorFunction
from domains.images.rewards.pick_score import PickScore
from domains.images.rewards.rendered_text import RenderedText
from domains.images.rewards.symmetry import Symmetry
from domains.images.rewards.vqa_score import VQAScore

__all__ = [
    "AestheticScore",
    "Brightness",
    "CLIPScore",
    "CaptionMatch",
    "ClassProbability",
    "Compressibility",
    "HPSv2",
    "ImageReward",
    "Incompressibility",
    "PickScore",
    "RenderedText",
    "Symmetry",
    "TensorFunction",
    "VQAScore",
]
