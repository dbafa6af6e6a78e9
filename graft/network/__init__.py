"""The tuned network: its frozen reference, its average, its weights in files, batch sizes."""

from graft.network.auto_batch_size import AutoBatchSize
from graft.network.ema import EMA, trainable_parameters
from graft.network.reference import LoRA, adapter_disabled, add_lora, eval_mode, frozen_copy

__all__ = [
    "EMA",
    "AutoBatchSize",
    "LoRA",
    "adapter_disabled",
    "add_lora",
    "eval_mode",
    "frozen_copy",
    "trainable_parameters",
]
