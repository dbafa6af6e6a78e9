"""What the network learns from a round's draws and rewards; a new method is a new file here, or a class elsewhere."""

from graft.objectives.anchored import Anchored
from graft.objectives.base import Objective, Scored
from graft.objectives.diffusion_nft import DiffusionNFT
from graft.objectives.policy_gradient import PolicyGradient
from graft.objectives.shaping import Shaping

__all__ = ["Anchored", "DiffusionNFT", "Objective", "PolicyGradient", "Scored", "Shaping"]
