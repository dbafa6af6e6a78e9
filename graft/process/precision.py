"""The precision in which a process computes, at least that of the states."""

import torch
from torch import Tensor

from graft.core.state import State, as_tensor


def single(x: Tensor) -> torch.dtype:
    """Return float64 for a float64 ``x``, else float32; a loss needs more than half precision."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def double(x: Tensor) -> torch.dtype:
    """Return float64, or float32 on a device without it, for differences that cancel."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def to_single(state: State) -> Tensor:
    """Return a state that is one tensor, in the dtype of `single`."""
    x = as_tensor(state)
    return x.to(single(x))


def to_double(state: State) -> Tensor:
    """Return a state that is one tensor, in the dtype of `double`."""
    x = as_tensor(state)
    return x.to(double(x))
