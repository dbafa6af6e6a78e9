"""Find NaN and infinity in tensors, and raise NotFiniteError for them.

A tensor is finite if and only if its smallest and largest values are finite. `torch.aminmax` finds them without a copy.
"""

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from graft.errors import GraftError


class NotFiniteError(GraftError):
    """A loss, gradient, weight or sample holds NaN or infinity."""


def extremes(tensor: Tensor) -> Tensor:
    """Return (2,) the smallest and the largest value of a tensor, NaN if any value is NaN.

    The result is on the device of the tensor. Empty tensors, integers and meta tensors give zeros. For a sharded tensor
    the result covers the shard of this rank.
    """
    if isinstance(tensor, DTensor):
        tensor = tensor.to_local()
    if tensor.is_sparse:
        tensor = tensor.coalesce().values()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.is_floating_point() or tensor.is_meta or not tensor.numel():
        return torch.zeros(2, device=None if tensor.is_meta else tensor.device)
    if tensor.element_size() == 1:  # eight-bit types have no minimum
        tensor = tensor.to(torch.float32)
    return torch.stack(torch.aminmax(tensor.detach()))


def is_finite(tensor: Tensor) -> bool:
    """Return True if a tensor holds neither NaN nor infinity."""
    return bool(extremes(tensor).isfinite().all())


def first_not_finite(
    tensors: "Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]", masks: Container[str] = ()
) -> "str | None":
    """Return the name of the first tensor that holds NaN or infinity, or None.

    Args:
        tensors: Tensors by name.
        masks: Names of buffers in which −infinity is allowed, since attention masks hold it.
    """
    for name, tensor in tensors.items() if isinstance(tensors, Mapping) else tensors:
        low, high = extremes(tensor).tolist()
        if not math.isfinite(high) and not (name in masks and high == low == -math.inf):
            return name
        if not math.isfinite(low) and name not in masks:
            return name
    return None


def require_finite_weights(
    tensors: "Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]", owner: Any, action: str, masks: Container[str] = ()
) -> None:
    """Raise NotFiniteError if weights hold NaN or infinity.

    Args:
        tensors: Weights by name.
        owner: Path or description of the owner of the weights, for the message.
        action: Advice to the user, for the message.
        masks: Names of buffers in which −infinity is allowed.
    """
    if (name := first_not_finite(tensors, masks)) is not None:
        raise NotFiniteError(f"{owner}: the tensor {name} holds values that are not finite: {action}")


def require_finite_network(network: nn.Module, owner: Any, action: str) -> None:
    """Raise NotFiniteError if a parameter or a buffer of a network is not finite."""
    buffers = dict(network.named_buffers())
    require_finite_weights({**dict(network.named_parameters()), **buffers}, owner, action, buffers)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in a batch: in containers and in attributes of objects."""
    seen: set[int] = set()
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, Tensor):
            yield each
        elif each is not None and not isinstance(each, str | bytes | int | float) and id(each) not in seen:
            seen.add(id(each))
            if isinstance(each, Mapping):
                pending.extend(each.values())
            elif isinstance(each, list | tuple | set):
                pending.extend(each)
            elif hasattr(each, "__dict__"):
                pending.extend(vars(each).values())


def gradient_norm(parameters: Iterable[Tensor]) -> Tensor:
    """Return () the 2-norm of all gradients together; non-finite if a gradient is non-finite.

    The norm is 0 if no parameter has a gradient. For sharded parameters the norm covers all ranks, and all ranks must
    call the function.
    """
    found = [p.grad for p in parameters if p.grad is not None]
    return nn.utils.get_total_norm([g.coalesce().values() if g.is_sparse else g for g in found])


def require_finite_step(loss: Tensor, parameters: Iterable[Tensor], step: int, learning_rate: float) -> None:
    """Raise NotFiniteError if the loss or the gradient of a plain optimizer step is not finite.

    Args:
        loss: Loss of the step, after the call of ``backward``.
        parameters: Parameters that the optimizer is about to change.
        step: Number of the step, counted from 1.
        learning_rate: Learning rate, for the message.
    """
    found = float(loss.detach()), float(gradient_norm(parameters))
    for what, value in zip(("loss", "gradient"), found, strict=True):
        if not math.isfinite(value):
            raise NotFiniteError(
                f"the {what} of step {step} is {value:g}: lower learning_rate (now {learning_rate:g}); no weights were "
                "written"
            )
