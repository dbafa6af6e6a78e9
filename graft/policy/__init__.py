"""Policy: the tuned network, the frozen reference and the sampler that they share; it samples and computes losses."""

from graft.policy.policy import Policy
from graft.policy.tuning import TUNING, Tuning

__all__ = ["TUNING", "Policy", "Tuning"]
