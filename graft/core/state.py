"""State and Condition: a batch as a tensor, or as a dict of tensors.

Every tensor has one leading batch dimension. A network generates a state from a condition (number of atoms, mask,
label, prompt embedding). Ragged fields are padded, and the condition holds their mask.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

State: TypeAlias = "Tensor | dict[str, Tensor]"
Condition: TypeAlias = dict[str, Tensor]
AnyState = TypeVar("AnyState", Tensor, dict[str, Tensor], State)
"""A tensor, a dict of tensors, or either. `apply`, `take`, `cat` and `move` return the kind of their argument."""


def apply(function: Callable[..., Tensor], state: AnyState, *others: State) -> AnyState:
    """Return ``function`` of each field of the states, or of the states if they are tensors."""
    if isinstance(state, Tensor):
        return function(state, *others)
    fields = [other for other in others if isinstance(other, dict)]
    return {name: function(field, *(other[name] for other in fields)) for name, field in state.items()}


def as_tensor(state: State) -> Tensor:
    """Return a state that is one tensor; a dict is an error of the caller."""
    assert isinstance(state, Tensor), (
        "the state is a dict; it must be a tensor. `MultiFieldProcess` gives a process to each field of a dict"
    )
    return state


def as_dict(state: State) -> dict[str, Tensor]:
    """Return a state that is a dict of tensors; a single tensor is an error of the caller."""
    assert isinstance(state, dict), "the state is a tensor; it must be a dict of tensors"
    return state


def fields_of(state: State) -> list[Tensor]:
    """Return the tensors of a state."""
    return [state] if isinstance(state, Tensor) else list(state.values())


def size(state: State) -> int:
    """Return the batch size."""
    return len(fields_of(state)[0])


def broadcast_to(value: Tensor, x: Tensor) -> Tensor:
    """Return a scalar, or (B,) as (B, 1, ...), in the dtype of ``x`` (B, ...) and for operations with it.

    A scalar of the processor stays there: torch passes it to operations on a GPU, and a copy would wait for the GPU.
    """
    if value.ndim == 0:
        return value.to(x.dtype) if value.device.type == "cpu" else value.to(x.device, x.dtype)
    return value.to(x.device, x.dtype).reshape(-1, *[1] * (x.ndim - 1))


def take(state: AnyState, index: "Tensor | slice | tuple[Tensor, ...]") -> AnyState:
    """Return the rows ``index``.

    ``index`` holds positions, a boolean mask, a slice, or positions in the first dimensions.
    """
    return apply(lambda field: field[index], state)


def repeat_rows(state: AnyState, times: int) -> AnyState:
    """Return the state with each row ``times`` times, one copy after the other."""
    return state if times == 1 else apply(lambda field: field.repeat_interleave(times, 0), state)


def cat(states: Sequence[AnyState]) -> AnyState:
    """Return one batch of several."""
    if isinstance(states[0], Tensor):
        return torch.cat([s for s in states if isinstance(s, Tensor)])
    return {name: torch.cat([s[name] for s in states if isinstance(s, dict)]) for name in states[0]}


def move(state: AnyState, device: "torch.device | str") -> AnyState:
    """Return the state on ``device``."""
    return apply(lambda field: field.to(device), state)


def flatten(state: State, prefix: str) -> dict[str, Tensor]:
    """Return the fields under names that begin with ``prefix``, as safetensors files hold them."""
    if isinstance(state, Tensor):
        return {prefix: state}
    return {f"{prefix}/{name}": field for name, field in state.items()}


def unflatten(tensors: dict[str, Tensor], prefix: str) -> State:
    """Return the state that `flatten` stored under ``prefix``; an empty dict if there is none."""
    if prefix in tensors:
        return tensors[prefix]
    return {name[len(prefix) + 1 :]: field for name, field in tensors.items() if name.startswith(prefix + "/")}


def flatten_state(state: State) -> Tensor:
    """Return a copy of a state as one matrix (B, D)."""
    return torch.cat([field.flatten(1) for field in fields_of(state)], 1)


def unflatten_state(x: Tensor, layout: State) -> State:
    """Return rows (K, D) of `flatten_state` as a state with the fields of ``layout``."""
    if isinstance(layout, Tensor):
        return x.reshape(len(x), *layout.shape[1:])
    parts = torch.split(x, [f[0].numel() for f in layout.values()], 1)
    return {name: part.reshape(len(x), *f.shape[1:]) for (name, f), part in zip(layout.items(), parts, strict=True)}
