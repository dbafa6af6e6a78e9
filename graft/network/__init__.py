"""The network that is tuned: the frozen one beside it, its average, its weights in files, and how it fits memory."""

from graft.network.ema import EMA, trained
from graft.network.memory import Fitted
from graft.network.reference import LoRA, adapt, evaluating, frozen, without_adapter

__all__ = ["EMA", "Fitted", "LoRA", "adapt", "evaluating", "frozen", "trained", "without_adapter"]
