"""Checkpoints: atomic files with a format and a checksum, read as plain data only."""

import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor
from typing_extensions import override

from graft.core.finite import require_finite_weights
from graft.errors import GraftError
from graft.io.atomic import atomic_write
from graft.io.checksum import checksum
from graft.io.format import FORMAT, check_format
from graft.runs.sharding import check_index, verify_checksums

CHANGED = (
    "was changed since it was written (its checksum does not match): give another --ckpt_path, or remove it and resume "
    "from the rounds with --ckpt_path last"
)


class ChecksummedCheckpointIO(TorchCheckpointIO):
    """Lightning checkpoints as single files, with the format and the checksum."""

    @override
    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: "Any | None" = None) -> None:
        """Write a checkpoint atomically: an old file stays until the new file is complete.

        Raises:
            GraftError: The file cannot be written, or weights are not finite.
        """
        require_finite(checkpoint, f"{path} was not written", "lower model.optimizer.lr")
        note = {**checkpoint.get("graft", {}), "format": FORMAT}
        note.pop("sha256", None)
        noted = {**checkpoint, "graft": note}
        note["sha256"] = checksum(noted)
        with atomic_write(path) as temporary:
            try:
                with open(temporary, "wb") as file:
                    torch.save(noted, file)
            except RuntimeError as error:  # torch raises RuntimeError for a full disk
                raise OSError(28, str(error).splitlines()[0]) from None

    @override
    def load_checkpoint(
        self, path: Any, map_location: Any = None, weights_only: "bool | None" = None
    ) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint: tensors and plain values; no code in it runs.

    Args:
        path: File of the checkpoint, or folder of a sharded one.

    Raises:
        GraftError: The file is truncated, changed, holds other objects, or comes from another program or version.
    """
    whole = not path.is_dir()
    if not whole:  # each rank wrote its shard
        check_index(path)
        verify_checksums(path)
    file = path if whole else path / "meta.pt"
    try:
        with zipfile.ZipFile(file) as archive:  # first, because changed bytes can unpickle to anything
            intact = archive.testzip() is None
        checkpoint = torch.load(file, map_location="cpu", weights_only=True) if intact else None
    except Exception as error:  # torch.load raises a dozen kinds
        raise GraftError(
            f"{path} is not a checkpoint of graft or is truncated ({type(error).__name__}): give another --ckpt_path"
        ) from None
    if not intact:
        raise GraftError(f"{path} {CHANGED}")
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("graft"), dict):
        raise GraftError(f"{path} was not written by graft: warm starts from weights use --weights")
    note = checkpoint["graft"]
    check_format(path, note)
    recorded = note.pop("sha256", None)
    if whole and recorded != checksum(checkpoint):
        raise GraftError(f"{path} {CHANGED}")
    require_finite(checkpoint, path, "give another --ckpt_path")
    needed = {"global_step", "loops", "pytorch-lightning_version", *(["state_dict"] if whole else [])}
    if not needed <= checkpoint.keys():
        raise GraftError(f"{path} is not a checkpoint of a run: warm starts from weights use --weights")
    return checkpoint


def require_finite(checkpoint: dict[str, Any], owner: Any, action: str) -> None:
    """Raise NotFiniteError if weights, averages or optimizer moments are not finite.

    Args:
        checkpoint: Content of the checkpoint.
        owner: Path or description of the checkpoint, for the message.
        action: Advice to the user, for the message.
    """
    weights = _tensors(checkpoint.get("state_dict", {}), "")
    # a state dict does not separate parameters from buffers, and attention masks among buffers hold −infinity
    require_finite_weights(weights, owner, action, weights)
    require_finite_weights(_tensors(checkpoint.get("optimizer_states", []), "optimizer"), owner, action)


def _tensors(value: Any, name: str) -> dict[str, Tensor]:
    """Return all tensors in nested containers, by dotted path."""
    if isinstance(value, Tensor):
        return {name: value}
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    )
    found: dict[str, Tensor] = {}
    for key, each in items:
        found |= _tensors(each, f"{name}.{key}" if name else str(key))
    return found
