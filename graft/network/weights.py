"""Weights of a network: read from a file or from memory, checked, and put into the network."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from graft.core.finite import require_finite_weights
from graft.errors import GraftError
from graft.io.checksum import checksum, file_checksum
from graft.io.foreign_weights import load_state_dict
from graft.io.paths import domain_roots, find_file
from graft.network.match import match_names
from graft.network.sharded import copy_into

if TYPE_CHECKING:
    Reference = str | Path | nn.Module | Mapping[str, Tensor]
else:  # a configuration can only name a file
    Reference = str

MEMORY = "a network in memory"  # in place of a path


def read_reference(
    backbone: nn.Module, weights: "str | Path", prefix: "str | None" = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Load the reference's weights from a file into ``backbone``.

    Args:
        backbone: The network.
        weights: Path of the file, or its name in an installed package.
        prefix: Prefix of the network's names in the file; None to find a prefix that all names share.

    Returns:
        (statistics of the training data, ``path`` and ``sha256`` of the file).

    Raises:
        GraftError: The file holds the weights of another network, or tuned weights.
    """
    path = find_file(weights)
    tensors, about = load_state_dict(path)
    if about.get("reference"):
        raise GraftError(f"{weights} holds tuned weights, not a reference: give the file it was tuned from")
    own = with_prefix(tensors, "backbone")
    load_tensors(backbone, own, weights, dict(backbone.named_parameters()), persistent_buffers(backbone), prefix)
    shipped = any(path.is_relative_to(root) for root in domain_roots())
    name = str(weights) if shipped else str(path.resolve())  # found from any folder
    hashed = checksum(own) if about.get("memory") else file_checksum(path)
    return with_prefix(tensors, "statistics"), {"path": name, "sha256": hashed}


def take_reference(
    backbone: nn.Module, weights: "nn.Module | Mapping[str, Tensor]", prefix: "str | None" = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Load the reference's weights from memory into ``backbone``.

    Args:
        backbone: The network.
        weights: A network, or its state dict.
        prefix: Prefix of the network's names in the state dict; None to find a prefix that all names share.

    Returns:
        (the weights by the network's names, ``path`` and ``sha256`` as a file would have them).

    Raises:
        GraftError: The weights belong to another network, or are not tensors.
    """
    found = weights.state_dict() if isinstance(weights, nn.Module) else dict(weights)
    if odd := [name for name, tensor in found.items() if not isinstance(name, str) or not isinstance(tensor, Tensor)]:
        raise GraftError(f"model.weights has {odd[0]!r}; it must be a state dict, with a tensor for each name")
    expected, buffers = dict(backbone.named_parameters()), persistent_buffers(backbone)
    own = load_tensors(backbone, found, "the network in memory", expected, buffers, prefix)
    own = {name: tensor.detach().cpu().clone() for name, tensor in own.items()}
    return own, {"path": MEMORY, "sha256": checksum(own)}


def is_reference(path: Path, recorded: Any) -> bool:
    """Return True if a file is the reference with the hash that tuned weights name.

    Raises:
        GraftError: The file is damaged.
    """
    if file_checksum(path) == recorded:
        return True
    if path.suffix != ".safetensors" or not load_state_dict(path)[1].get("memory"):
        return False
    return bool(checksum(with_prefix(load_state_dict(path)[0], "backbone")) == recorded)


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix/``, by the rest of their names."""
    return {n.removeprefix(f"{prefix}/"): t for n, t in tensors.items() if n.startswith(f"{prefix}/")}


def load_tensors(
    network: nn.Module,
    tensors: dict[str, Tensor],
    path: Any,
    expected: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    prefix: "str | None" = None,
) -> dict[str, Tensor]:
    """Put tensors into a network.

    Args:
        network: The network.
        tensors: The tensors, by the names in the file.
        path: The file, for messages.
        expected: The parameters that must be there, by the network's names.
        buffers: The buffers that must be there, by the network's names.
        prefix: Prefix of the names in the file; None to find a prefix that all names share.

    Returns:
        The tensors that were put into the network, by the network's names.

    Raises:
        GraftError: The tensors belong to another network, are quantised, or are not finite.
    """
    wanted = {**expected, **buffers}
    # the network may lack auxiliary heads, which are used in training only
    auxiliary = tuple(getattr(network, "auxiliary", ()))
    tensors = {name: t for name, t in tensors.items() if name in wanted or not name.startswith(auxiliary)}
    own = match_names(tensors, wanted, prefix, path, type(network).__name__)
    for name, tensor in own.items():  # all tensors are checked before one is copied
        if wanted[name].is_floating_point() and not tensor.is_floating_point():
            raise GraftError(
                f"{path} has {name} as {tensor.dtype}, which is {wanted[name].dtype} in {type(network).__name__}: give "
                "weights that are not quantised"
            )
    cast = ((name, tensor.to(wanted[name].dtype)) for name, tensor in own.items())
    require_finite_weights(cast, path, "give another file", buffers)
    for name, tensor in own.items():
        copy_into(wanted[name], tensor)
    return own


def persistent_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Return the buffers of a network that its state dict holds, by name."""
    parameters = dict(network.named_parameters())
    return {name: tensor for name, tensor in network.state_dict().items() if name not in parameters}
