"""Tensors that may be sharded over ranks."""

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def full_tensor(tensor: Tensor) -> Tensor:
    """Return a sharded tensor put together. All ranks call it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def copy_into(target: Tensor, tensor: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    if isinstance(target, DTensor) and not isinstance(tensor, DTensor):
        tensor = distribute_tensor(tensor.to(target.device, target.dtype), target.device_mesh, target.placements)
    target.copy_(tensor)
