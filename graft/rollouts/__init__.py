"""Rollouts: the data module of fine-tuning, its settings, and the checks before the first round."""

from graft.rollouts.data_module import Rollouts
from graft.rollouts.settings import Evaluation, RewardBudget, ScoredFile, Storage

__all__ = ["Evaluation", "RewardBudget", "Rollouts", "ScoredFile", "Storage"]
