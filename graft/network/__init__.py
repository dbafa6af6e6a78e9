"""Networks: the frozen reference, the average, noise correctors, weights in files, batch sizes."""

from graft.network.auto_batch_size import AutoBatchSize
from graft.network.corrector import GaussianCorrector, NoiseCorrector
from graft.network.ema import EMA, trainable_parameters
from graft.network.reference import LoRA, adapter_disabled, add_lora, eval_mode, frozen_copy

__all__ = [
    "EMA",
    "AutoBatchSize",
    "GaussianCorrector",
    "LoRA",
    "NoiseCorrector",
    "adapter_disabled",
    "add_lora",
    "eval_mode",
    "frozen_copy",
    "trainable_parameters",
]
