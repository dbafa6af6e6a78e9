"""Sharded networks: FSDP2, each process keeping a part of every parameter (Zhao et al. 2023, arXiv 2304.11277)."""

import importlib
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from graft.ema import EMA
from graft.errors import GraftError

if TYPE_CHECKING:
    from graft.module import GraftModule

INDEX = ".metadata"  # of a sharded checkpoint: torch writes it as a pickle
OTHERS = {  # that an index names besides the classes of torch.distributed.checkpoint
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    *(("pathlib", name) for name in ("Path", "PosixPath", "WindowsPath")),
}


class FullyShard(ModelParallelStrategy):
    """FSDP2 over all processes: parameters, gradients, optimizer, average and reference are sharded.

    Args:
        save_distributed_checkpoint: Every process writes its part of a checkpoint, which is then a folder; else the
            first one writes all of it into a file.
        process_group_backend: ``gloo``, ``nccl``; by the device if not given.
    """

    def __init__(self, save_distributed_checkpoint: bool = False, process_group_backend: "str | None" = None) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
        )

    def setup_environment(self) -> None:
        """Make the mesh of all processes; Lightning's own default is one of nodes times devices."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


def shard(module: "GraftModule", mesh: Any) -> None:
    """Shard the networks of a module over a mesh of processes, block by block; once.

    Args:
        module: Its trained network and its reference.
        mesh: One-dimensional `torch.distributed.DeviceMesh`.

    Raises:
        GraftError: The objective needs another set of weights besides the average.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if isinstance(module.backbone, FSDPModule):
        return
    if any(isinstance(part, EMA) for part in module.objective.modules()):
        raise GraftError(
            f"{type(module.objective).__name__} keeps weights of its own, which cannot be sharded: use trainer/ddp.yaml"
        )
    for network in filter(None, (module.backbone, module.reference)):
        for part in network.modules():
            for block in part if isinstance(part, nn.ModuleList) else ():
                if any(True for _ in block.parameters()):
                    fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh, reshard_after_forward=True)  # weights are swapped between calls
    if module.average is not None:
        module.average = EMA(module.backbone, module.average.decay)


def whole(tensor: Tensor) -> Tensor:
    """A sharded tensor put together; every process calls this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def put(target: Tensor, tensor: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    if isinstance(target, DTensor) and not isinstance(tensor, DTensor):
        tensor = distribute_tensor(tensor.to(target.device, target.dtype), target.device_mesh, target.placements)
    target.copy_(tensor)


def check_index(folder: Path) -> None:
    """Refuse a sharded checkpoint whose index, which torch unpickles, would load anything but the classes of an index.

    Raises:
        GraftError: It would, or there is none.
    """
    try:
        with (folder / INDEX).open("rb") as file:
            _Index(file).load()
    except Exception as error:  # a damaged pickle raises a dozen kinds
        raise GraftError(
            f"{folder} is no checkpoint of graft, is damaged or was tampered with ({error}): give another --ckpt_path"
        ) from None


class _Index(pickle.Unpickler):
    """Of the classes that torch.distributed.checkpoint writes, and of nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = module.startswith("torch.distributed.checkpoint.") and "." not in name
        found = getattr(importlib.import_module(module), name, None) if module == "torch" or known else None
        if (module, name) in OTHERS or isinstance(found, torch.dtype) or (known and isinstance(found, type)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")
