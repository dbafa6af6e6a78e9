"""Weights of other programs: state dicts in safetensors and torch files, never unpickled."""

import pickle
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from graft.errors import GraftError
from graft.io.tensors import ForeignError, read_tensors


def load_state_dict(path: "str | Path") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors of a network and its metadata, which is empty for a foreign file.

    The file is a safetensors file, or a torch file (``.pt``, ``.pth``, ``.ckpt``, ``.bin``) of tensors and plain
    values. A torch file holds a state dict, a state dict under ``state_dict`` (Lightning), or several state dicts by
    name (``model``, ``ema``). In the last case the name of the state dict becomes a prefix of the tensor names. No
    other object is unpickled.

    Raises:
        GraftError: The file is missing, truncated, of another kind, or holds other objects.
    """
    path = Path(path)
    if path.suffix.lower() in (".pt", ".pth", ".ckpt", ".bin"):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises a dozen kinds
            named = re.search(r"(?:GLOBAL |global |class )'?([A-Za-z_][\w.]*\.[\w.]+)", str(error))
            if isinstance(error, pickle.UnpicklingError) and named is not None:
                raise GraftError(
                    f"{path} holds a Python object ({named[1].rstrip('.')}), which could run code and is not loaded: "
                    "save the network's state dict alone, torch.save(network.state_dict(), FILE)"
                ) from None
            raise GraftError(f"{path} is not a file of tensors, or is truncated ({type(error).__name__})") from None
        found = _state_dict(content)
        if not found:
            raise GraftError(f"{path} holds no state dict: save the network's, torch.save(network.state_dict(), FILE)")
        return {f"backbone/{name}": tensor for name, tensor in found.items()}, {}
    try:
        return read_tensors(path)
    except ForeignError:
        with safe_open(path, framework="pt") as file:
            return {f"backbone/{name}": file.get_tensor(name) for name in file.keys()}, {}


def _state_dict(content: Any) -> dict[str, Tensor]:
    """Return the tensors in the content of a torch file, by name."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    out: dict[str, Tensor] = {}
    for name, value in content.items() if isinstance(content, dict) else ():
        inner = {"": value} if isinstance(value, Tensor) else value if isinstance(value, dict) else {}
        for key, tensor in inner.items():
            if isinstance(tensor, Tensor) and isinstance(name, str) and isinstance(key, str):
                out[f"{name}.{key}" if key else name] = tensor
    return out
