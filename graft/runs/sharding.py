"""Sharded networks (FSDP2): each rank keeps a shard of every parameter.

Source: Zhao et al. 2023, arXiv 2304.11277.
"""

import importlib
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import nn
from typing_extensions import override

from graft.errors import GraftError
from graft.io.atomic import sync
from graft.io.checksum import file_checksum
from graft.io.json_files import read_checked_json, write_checked_json
from graft.policy import Policy

CHECKSUMS = "checksums.json"  # file of a sharded checkpoint with the checksum of each shard
INDEX = ".metadata"  # file of a sharded checkpoint that torch writes as a pickle
OTHERS = {  # names allowed in an index in addition to the classes of torch.distributed.checkpoint
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    *(("pathlib", name) for name in ("Path", "PosixPath", "WindowsPath")),
}


class FullyShard(ModelParallelStrategy):
    """FSDP2 over all ranks: shards parameters, optimizer, EMA weights and the reference.

    Args:
        save_distributed_checkpoint: True to write a checkpoint as a folder with a shard of each rank; False to write
            one file on rank 0.
        process_group_backend: ``gloo`` or ``nccl``; chosen by the device if None.
    """

    def __init__(self, save_distributed_checkpoint: bool = False, process_group_backend: "str | None" = None) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
        )

    @override
    def setup_environment(self) -> None:
        """Make a one-dimensional mesh of all ranks; the default of Lightning is nodes times devices."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    @override
    def setup(self, trainer: Any) -> None:
        """Shard networks that ``configure_model`` left whole, if a domain omits ``super()``."""
        module: Any = self.lightning_module
        shard(module.policy, module.objective, self.device_mesh["data_parallel"])
        super().setup(trainer)

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: "Any | None" = None) -> None:
        """Write a checkpoint; an old folder stays until the new one is complete with checksums.

        Raises:
            GraftError: The checkpoint cannot be written.
        """
        if not self._save_distributed_checkpoint:
            super().save_checkpoint(checkpoint, filepath, storage_options)
            return
        path = Path(self.broadcast(filepath))
        part, old = (path.with_name(f".{path.name}.{state}") for state in ("part", "old"))
        if self.is_global_zero:
            for left in (part, old):  # a run that was killed here left them
                shutil.rmtree(left, ignore_errors=True)
        self.barrier()
        super().save_checkpoint(checkpoint, part, storage_options)
        self.barrier()
        if self.is_global_zero:
            write_checksums(part)
            sync(part)
            if path.is_dir():
                path.rename(old)
            part.replace(path)
            shutil.rmtree(old, ignore_errors=True)
        self.barrier()


def shard(policy: Policy, objective: Any, mesh: Any) -> None:
    """Shard the networks of a policy over a mesh of ranks, block by block.

    A policy that is sharded already stays as it is.

    Args:
        policy: Policy with the tuned network and the reference to shard.
        objective: The `graft.objectives.Objective`; its copies of the weights are made again from the shards.
        mesh: A one-dimensional `torch.distributed.DeviceMesh`.
    """
    from torch.distributed.fsdp import FSDPModule, fully_shard

    if isinstance(policy.backbone, FSDPModule):
        return
    for network in policy.networks():
        for part in network.modules():
            for block in part if isinstance(part, nn.ModuleList) else ():
                if any(True for _ in block.parameters()):
                    fully_shard(block, mesh=mesh)
        # reshard, because weights are swapped between calls
        fully_shard(network, mesh=mesh, reshard_after_forward=True)
    policy.restart_ema()
    objective.setup(policy)


def shards(strategy: Any) -> bool:
    """Return True if a strategy shards networks, so that all ranks must call them equally often."""
    return isinstance(strategy, FSDPStrategy | ModelParallelStrategy)


def write_checksums(folder: Path) -> None:
    """Write the checksum of every shard of a sharded checkpoint."""
    parts = sorted(path.name for path in folder.iterdir() if path.name != CHECKSUMS)
    write_checked_json(folder / CHECKSUMS, {"shards": {name: file_checksum(folder / name) for name in parts}})


def verify_checksums(folder: Path) -> None:
    """Raise GraftError if a shard of a checkpoint is missing or was changed."""
    remedy = "give another --ckpt_path"
    for name, hashed in read_checked_json(folder / CHECKSUMS, remedy)["shards"].items():
        if not (folder / name).is_file() or file_checksum(folder / name) != hashed:
            raise GraftError(f"{folder / name} is missing or was changed since it was written: {remedy}")


def check_index(folder: Path) -> None:
    """Raise GraftError if the index of a sharded checkpoint names unexpected classes.

    torch unpickles the index, so any other class could run code.
    """
    try:
        with (folder / INDEX).open("rb") as file:
            _Index(file).load()
    except Exception as error:  # a damaged pickle raises a dozen kinds
        raise GraftError(
            f"{folder} is damaged, tampered with or not a checkpoint of graft ({error}): give another --ckpt_path"
        ) from None


class _Index(pickle.Unpickler):
    """An unpickler that loads only the classes that torch.distributed.checkpoint writes."""

    @override
    def find_class(self, module: str, name: str) -> Any:
        known = module.startswith("torch.distributed.checkpoint.") and "." not in name
        found = getattr(importlib.import_module(module), name, None) if module == "torch" or known else None
        if (module, name) in OTHERS or isinstance(found, torch.dtype) or (known and isinstance(found, type)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")
