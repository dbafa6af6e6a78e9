"""The precision that a process computes in, whatever the precision of the states."""

import torch
from torch import Tensor


def single(x: Tensor) -> torch.dtype:
    """Return the type of results for ``x``: float32, and float64 where ``x`` has it; half precision loses a loss."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def double(x: Tensor) -> torch.dtype:
    """Return the type for what cancels in single precision: float64, but float32 on devices that have no float64."""
    return torch.float32 if x.device.type == "mps" else torch.float64
