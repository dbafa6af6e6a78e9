"""Sharded networks: FSDP2, each process keeping a part of every parameter (Zhao et al. 2023, arXiv 2304.11277)."""

import importlib
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from graft import files
from graft.errors import GraftError
from graft.network import EMA

if TYPE_CHECKING:
    from graft.module import GraftModule

SEAL = "parts.json"  # of a sharded checkpoint: the hash of each of its files
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

    def setup(self, trainer: Any) -> None:
        """Shard what ``configure_model`` left whole, as that of a domain that does not call ``super()`` does."""
        mesh = self.device_mesh["data_parallel"]
        shard(self.lightning_module, mesh)  # type: ignore[arg-type]
        super().setup(trainer)

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: "Any | None" = None) -> None:
        """Write it; in parts, the folder that was there stays until the new one is whole and sealed.

        Raises:
            GraftError: It cannot be written.
        """
        if not self._save_distributed_checkpoint:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        path = Path(self.broadcast(filepath))
        part, old = (path.with_name(f".{path.name}.{state}") for state in ("part", "old"))
        if self.is_global_zero:
            for left in (part, old):  # by a run that was killed here
                shutil.rmtree(left, ignore_errors=True)
        self.barrier()
        super().save_checkpoint(checkpoint, part, storage_options)
        self.barrier()
        if self.is_global_zero:
            write_checksums(part)
            files.synced(part)
            if path.is_dir():
                path.rename(old)
            part.replace(path)
            shutil.rmtree(old, ignore_errors=True)
        self.barrier()


def shard(module: "GraftModule", mesh: Any) -> None:
    """Shard the networks of a module over a mesh of processes, block by block; once.

    Args:
        module: Its trained network and its reference.
        mesh: One-dimensional `torch.distributed.DeviceMesh`.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if isinstance(module.backbone, FSDPModule):
        return
    for network in filter(None, (module.backbone, module.reference)):
        for part in network.modules():
            for block in part if isinstance(part, nn.ModuleList) else ():
                if any(True for _ in block.parameters()):
                    fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh, reshard_after_forward=True)  # weights are swapped between calls
    if module.average is not None:
        module.average = EMA(module.backbone, module.average.decay)
    module.objective.setup(module)  # whose copies of the weights are sharded like them


def shards(strategy: Any) -> bool:
    """Return whether the ranks of a strategy share one network, so that all have to call it as often."""
    return isinstance(strategy, FSDPStrategy | ModelParallelStrategy)


def full_tensor(tensor: Tensor) -> Tensor:
    """A sharded tensor put together; every process calls this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


@torch.no_grad()
def copy_into(target: Tensor, tensor: Tensor) -> None:
    """Copy a whole tensor into one that may be sharded."""
    if isinstance(target, DTensor) and not isinstance(tensor, DTensor):
        tensor = distribute_tensor(tensor.to(target.device, target.dtype), target.device_mesh, target.placements)
    target.copy_(tensor)


def write_checksums(folder: Path) -> None:
    """Note the hash of every part of a sharded checkpoint."""
    parts = sorted(path.name for path in folder.iterdir() if path.name != SEAL)
    files.write_checked_json(folder / SEAL, {"sha256 of": {name: files.sha256(folder / name) for name in parts}})


def verify_checksums(folder: Path) -> None:
    """Refuse a sharded checkpoint of which a part is missing or was changed.

    Raises:
        GraftError: One is, or there is no note of them.
    """
    remedy = "give another --ckpt_path"
    for name, hashed in files.read_checked_json(folder / SEAL, remedy)["sha256 of"].items():
        if not (folder / name).is_file() or files.sha256(folder / name) != hashed:
            raise GraftError(f"{folder / name} is missing or was changed since it was written: {remedy}")


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
