"""Templates of a denoiser's arguments: the latents, the time, values of a prompt, and constants."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graft.errors import GraftError
from graft.io.checksum import checksum


@dataclass(frozen=True)
class Latents:
    """The latents.

    Attributes:
        copies: Number of branches of guidance in the call.
        shape: Shape of a sample in the call.
        dtype: Type in the call.
        listed: The samples are a list, not a batch.
    """

    copies: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    listed: bool


@dataclass(frozen=True)
class Time:
    """The time, scale · t + shift.

    Attributes:
        scale: Factor of the scheduler's time.
        shift: Added to the scaled time.
        dtype: Type in the call; a whole-numbered one is float32 here, since levels lie between the scheduler's times.
    """

    scale: float
    shift: float
    dtype: torch.dtype


@dataclass(frozen=True)
class Own:
    """A value of each prompt: rows of a tensor, or entries of a list.

    Attributes:
        copies: Number of branches of guidance in the value.
        listed: The value is a list.
    """

    copies: int
    listed: bool


@dataclass(frozen=True)
class Same:
    """A value that does not depend on the sample."""


@dataclass(frozen=True)
class Parts:
    """A dict, list or tuple of other values."""

    parts: dict[Any, Any]
    kind: type


def template(name: str, one: "list[Any]", two: Any, samples: "list[Tensor]", times: "list[float]") -> Any:
    """Return the template of an argument.

    Args:
        name: Name of the argument in messages.
        one: Values for one prompt, at each step.
        two: Value for the same prompt twice, at the first step.
        samples: (1, ...) latents at each step.
        times: Time of the scheduler at each step.

    Raises:
        GraftError: The argument changes from step to step and is neither the latents nor the time.
    """
    first = one[0]
    found = _latents(one, samples) or _time(one, times)
    if found is not None:
        return found
    if isinstance(first, dict):
        return Parts({k: template(f"{name}.{k}", [v[k] for v in one], two[k], samples, times) for k in first}, dict)
    if isinstance(first, list | tuple):
        if first and len(two) == 2 * len(first) and all(len(value) == len(first) for value in one):
            _require_same(name, one)
            _require_own(name, first, two)
            return Own(len(first), True)
        parts = {
            i: template(f"{name}[{i}]", [value[i] for value in one], two[i], samples, times) for i in range(len(first))
        }
        return Parts(parts, type(first))
    _require_same(name, one)
    if isinstance(first, Tensor) and first.ndim and two.shape[0] == 2 * first.shape[0]:
        _require_own(name, first, two)
        return Own(first.shape[0], False)
    return Same()


def _require_own(name: str, one: Any, two: Any) -> None:
    """Raise GraftError if a prompt's value is another for other noise.

    Args:
        name: Name of the argument.
        one: Value of a prompt, one entry for each branch.
        two: Value of the same prompt twice with other noise, two entries for each branch.
    """
    for place, entry in enumerate(two):
        other = one[place // 2]
        if not isinstance(entry, Tensor) or not entry.is_floating_point():
            continue
        if entry.shape != other.shape or float((entry - other).norm()) > 5e-2 * float(other.norm()) + 1e-6:
            raise GraftError(f"the argument {name} of its denoiser depends on the noise, not on the prompt alone")


def _require_same(name: str, values: "list[Any]") -> None:
    """Raise GraftError if a value changes from step to step."""
    if not all(same(values[0], value) for value in values[1:]):
        raise GraftError(f"the argument {name} of its denoiser changes from step to step")


def same(one: Any, other: Any) -> bool:
    """Return True if two values have equal tensors and equal other parts."""
    if isinstance(one, Tensor):
        return isinstance(other, Tensor) and one.shape == other.shape and bool((one == other).all())
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return (
            type(one) is type(other)
            and len(one) == len(other)
            and all(same(a, b) for a, b in zip(one, other, strict=True))
        )
    return one is other or bool(one == other)


def _latents(values: "list[Any]", samples: "list[Tensor]") -> "Latents | None":
    """Return the template of the latents; None if the values are something else."""
    first = values[0]
    listed = isinstance(first, list) and bool(first) and all(isinstance(each, Tensor) for each in first)
    tensors = [torch.stack(value) if listed and len({t.shape for t in value}) == 1 else value for value in values]
    if not all(isinstance(each, Tensor) for each in tensors):
        return None
    for tensor, sample in zip(tensors, samples, strict=True):
        copies = tensor.shape[0] if tensor.ndim > 1 else 0
        expected = sample.to(tensor.dtype).flatten()
        if tensor.numel() != copies * expected.numel() or copies == 0:
            return None
        if not torch.equal(tensor.flatten(), expected.repeat(copies)):
            return None
    return Latents(len(tensors[0]), tuple(tensors[0].shape[1:]), tensors[0].dtype, listed)


def _time(values: "list[Any]", times: "list[float]") -> "Time | None":
    """Return the template of the time; None if the values are not a linear function of it, or do not change."""
    if not all(isinstance(value, Tensor) and value.ndim < 2 and value.numel() for value in values):
        return None
    if len(times) < 2 or not all(bool((value == value.reshape(-1)[0]).all()) for value in values):
        return None
    found = [float(value.reshape(-1)[0]) for value in values]
    if found[0] == found[1]:
        return None
    scale = (found[0] - found[1]) / (times[0] - times[1])
    dtype = values[0].dtype
    rounding = 1e-2 if dtype in (torch.float16, torch.bfloat16) else 1e-5
    size = max(abs(value) for value in found)
    scale = next((plain for plain in (1.0, -1.0, 1e-3, -1e-3) if abs(scale - plain) <= rounding * abs(plain)), scale)
    shift = found[0] - scale * times[0]
    shift = next((plain for plain in (0.0, 1.0, 1000.0) if abs(shift - plain) <= rounding * size), shift)
    error = max(abs(scale * time + shift - value) for time, value in zip(times, found, strict=True))
    if error > rounding * size:
        return None
    return Time(scale, shift, dtype if dtype.is_floating_point else torch.float32)


def fill(node: Any, values: "Sequence[Any]", x: Tensor, time: Tensor, branches: "Sequence[int]", copies: int) -> Any:
    """Return the argument for a batch.

    Args:
        node: Template of the argument.
        values: Value of each sample's prompt.
        x: (B, ...) latents.
        time: (B,) times of the scheduler.
        branches: Branches of guidance of the call, the samples of the first one first.
        copies: Number of branches in the recorded call.
    """
    if isinstance(node, Latents):
        batch = x.to(node.dtype).reshape(len(x), *node.shape)
        batch = torch.cat([batch] * len(branches))
        return list(batch.unbind()) if node.listed else batch
    if isinstance(node, Time):
        return torch.cat([(node.scale * time.double() + node.shift).to(node.dtype)] * len(branches))
    if isinstance(node, Own):
        chosen = branches if node.copies == copies else [0]
        if node.copies not in (1, copies):
            raise GraftError(f"an argument of its denoiser has {node.copies} rows for each prompt")
        if node.listed:
            return [moved(value[branch], x.device) for branch in chosen for value in values]
        return torch.cat([value[branch : branch + 1].to(x.device) for branch in chosen for value in values])
    if isinstance(node, Parts):
        filled = {
            key: fill(part, [value[key] for value in values], x, time, branches, copies)
            for key, part in node.parts.items()
        }
        return filled if node.kind is dict else node.kind(filled.values())
    return moved(values[0], x.device)


def moved(value: Any, device: torch.device) -> Any:
    """Return a value with its tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {name: moved(each, device) for name, each in value.items()}
    return type(value)(moved(each, device) for each in value) if type(value) in (list, tuple) else value


def shapes(node: Any, value: Any) -> Any:
    """Return a hashable description of a prompt's value; samples with equal ones can be one batch."""
    if isinstance(node, Latents | Time):
        return None
    if isinstance(node, Own):
        return None if node.listed else tuple(value.shape[1:])  # entries of a list may differ in their shapes
    if isinstance(node, Parts):
        return tuple(shapes(part, value[key]) for key, part in node.parts.items())
    return _hashed(value)


def _hashed(value: Any) -> Any:
    if isinstance(value, Tensor):
        plain = value.float() if value.dtype == torch.bfloat16 else value
        return (tuple(value.shape), str(value.dtype), checksum(plain.cpu().contiguous()))
    if isinstance(value, dict):
        return tuple((name, _hashed(each)) for name, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(_hashed(each) for each in value)
    return value if isinstance(value, str | int | float | bool | type(None)) else id(value)


def pruned(node: Any, value: Any) -> Any:
    """Return a prompt's value in CPU memory, without the latents and the time."""
    if isinstance(node, Latents | Time):
        return None
    if isinstance(node, Parts):
        return {key: pruned(part, value[key]) for key, part in node.parts.items()}
    return moved(value, torch.device("cpu"))


def copies_of(node: Any) -> "int | None":
    """Return the number of branches of guidance in the latents of an argument; None without latents in it."""
    if isinstance(node, Latents):
        return node.copies
    if isinstance(node, Parts):
        return next((found for part in node.parts.values() if (found := copies_of(part)) is not None), None)
    return None
