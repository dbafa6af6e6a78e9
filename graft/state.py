"""State and Condition: a batch as a tensor, or as a dict of tensors, with one leading batch dimension.

A state is what the network generates, a condition what is given to it (number of atoms, mask, label, prompt embedding).
Ragged things are padded, the condition carries their mask.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

State: TypeAlias = "Tensor | dict[str, Tensor]"
Condition: TypeAlias = dict[str, Tensor]


def apply(function: Callable[..., Tensor], state: State, *others: State) -> State:
    """``function`` on each field of the states (on the tensors themselves where the states are tensors)."""
    if isinstance(state, Tensor):
        return function(state, *others)
    fields = [other for other in others if isinstance(other, dict)]
    return {name: function(field, *(other[name] for other in fields)) for name, field in state.items()}


def size(state: State) -> int:
    """The batch size."""
    tensor = state if isinstance(state, Tensor) else next(iter(state.values()))
    return len(tensor)


def take(state: State, index: "Tensor | slice | tuple[Tensor, ...]") -> State:
    """The rows ``index`` (positions, a boolean mask, a slice, or positions in the first dimensions)."""
    return apply(lambda field: field[index], state)


def cat(states: Sequence[State]) -> State:
    """One batch of several."""
    if isinstance(states[0], Tensor):
        return torch.cat([s for s in states if isinstance(s, Tensor)])
    return {name: torch.cat([s[name] for s in states if isinstance(s, dict)]) for name in states[0]}


def move(state: State, device: "torch.device | str") -> State:
    """The state on ``device``."""
    return apply(lambda field: field.to(device), state)


def flatten(state: State, prefix: str) -> dict[str, Tensor]:
    """The fields under names that begin with ``prefix``, as safetensors files hold them."""
    if isinstance(state, Tensor):
        return {prefix: state}
    return {f"{prefix}/{name}": field for name, field in state.items()}


def unflatten(tensors: dict[str, Tensor], prefix: str) -> State:
    """The inverse of `flatten`; an empty dict if there is nothing under ``prefix``."""
    if prefix in tensors:
        return tensors[prefix]
    return {name[len(prefix) + 1 :]: field for name, field in tensors.items() if name.startswith(prefix + "/")}
