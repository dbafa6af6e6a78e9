"""Objectives: the losses that train the network on a round's draws and rewards. A new method is one more class."""

from graft.objectives.anchored import AnchoredShaping
from graft.objectives.base import Objective, RoundSpec, ScoredRound
from graft.objectives.diffusion_nft import DiffusionNFT
from graft.objectives.policy_gradient import PolicyGradient
from graft.objectives.shaping import Shaping

__all__ = ["AnchoredShaping", "DiffusionNFT", "Objective", "PolicyGradient", "RoundSpec", "ScoredRound", "Shaping"]
