"""Record what a pipeline's own call gives its denoiser and its scheduler."""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from typing_extensions import override


@dataclass
class NetworkCall:
    """One call of the denoiser.

    Attributes:
        given: Arguments by their names.
        output: Output: a tensor, or a list of tensors.
    """

    given: dict[str, Any]
    output: Any


@dataclass
class Step:
    """One step of the pipeline's loop.

    Attributes:
        calls: Calls of the denoiser.
        output: Output that the scheduler steps with.
        time: Time of the scheduler.
        sample: Latents before the step.
        after: Latents after the step.
    """

    calls: list[NetworkCall] = field(default_factory=list)
    output: "Tensor | None" = None
    time: float = 0.0
    sample: "Tensor | None" = None
    after: "Tensor | None" = None


@dataclass
class Recording:
    """The steps, noise and result of one call of a pipeline.

    Attributes:
        steps: Steps of its loop.
        timesteps_kwargs: Arguments of the scheduler's ``set_timesteps``.
        noises: Draws of `torch.randn` before the first step.
        result: Result of the call; None if it was ended early.
    """

    steps: list[Step] = field(default_factory=list)
    timesteps_kwargs: dict[str, Any] = field(default_factory=dict)
    noises: list[Tensor] = field(default_factory=list)
    result: Any = None


class _End(BaseException):
    """Raised to end a pipeline's call early."""


class _Noise(TorchFunctionMode):
    """Keep the draws of `torch.randn`, or put others in their place.

    Args:
        kept: List that the draws are added to.
        replaced: Function of (index of the draw, the draw) -> the draw.
    """

    def __init__(self, kept: list[Tensor], replaced: Callable[[int, Tensor], Tensor]) -> None:
        super().__init__()
        self.kept, self.replaced = kept, replaced

    @override
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is torch.randn:
            found = self.replaced(len(self.kept), found)
            self.kept.append(found)
        return found


def record(
    pipe: Any,
    part: str,
    call: dict[str, Any],
    *,
    steps: "int | None" = None,
    outputs: "list[Any] | None" = None,
    calls: "int | None" = None,
    latents: "Tensor | None" = None,
    noise: Callable[[int, Tensor], Tensor] = lambda _, draw: draw,
) -> Recording:
    """Return the recording of a call of the pipeline.

    Args:
        pipe: Pipeline.
        part: Name of the denoiser.
        call: Arguments of the call.
        steps: End the call when the scheduler is to take this step; None for a call that runs through.
        outputs: Outputs in place of the denoiser's, by their index in the step; the denoiser is then not called.
        calls: End the call after so many calls of the denoiser.
        latents: Latents in place of the scheduler's after each step.
        noise: Function that replaces the draws of `torch.randn`, by their index.
    """
    found = Recording()
    now = Step()
    network: nn.Module = getattr(pipe, part)
    scheduler = pipe.scheduler
    names = inspect.signature(network.forward)
    timesteps_names = inspect.signature(scheduler.set_timesteps)
    forward, step, set_timesteps = network.forward, scheduler.step, scheduler.set_timesteps

    @functools.wraps(forward)
    def recorded_forward(*args: Any, **kwargs: Any) -> Any:
        given = _arguments(names, args, kwargs)
        place = len(now.calls)
        kept = {name: _copied(value) for name, value in given.items()}
        if outputs is None:
            output = forward(*args, **kwargs)
            now.calls.append(NetworkCall(kept, _copied(first_of(output))))
        else:
            stand_in = outputs[min(place, len(outputs) - 1)]
            output = (stand_in,)
            if given.get("return_dict", True) is not False:
                from diffusers.models.modeling_outputs import Transformer2DModelOutput

                output = Transformer2DModelOutput(sample=stand_in)
            now.calls.append(NetworkCall(kept, stand_in))
        if calls is not None and len(now.calls) == calls:
            found.steps.append(now)
            raise _End
        return output

    @functools.wraps(step)
    def recorded_step(output: Any, time: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        nonlocal now
        now.output, now.time, now.sample = _copied(output), float(time), _copied(sample)
        found.steps.append(now)
        now = Step()
        if steps is not None and len(found.steps) == steps:
            raise _End
        if latents is None:
            result = step(output, time, sample, *args, **kwargs)
            found.steps[-1].after = _copied(result[0])
            return result
        after = latents.to(sample.device, sample.dtype)
        if kwargs.get("return_dict", True) is False:
            return (after,)
        from diffusers.schedulers.scheduling_utils import SchedulerOutput

        return SchedulerOutput(prev_sample=after)

    @functools.wraps(set_timesteps)
    def recorded_set_timesteps(*args: Any, **kwargs: Any) -> Any:
        given = _arguments(timesteps_names, args, kwargs)
        found.timesteps_kwargs = {
            name: value for name, value in given.items() if name != "device" and value is not None
        }
        return set_timesteps(*args, **kwargs)

    methods = ((network, "forward", recorded_forward), (scheduler, "step", recorded_step))
    with (
        replaced(*methods, (scheduler, "set_timesteps", recorded_set_timesteps)),
        _Noise(found.noises, noise),
        torch.no_grad(),
    ):
        try:
            found.result = pipe(**call)
        except _End:
            pass
    return found


def first_of(output: Any) -> Any:
    """Return the prediction in a denoiser's output: a tensor, or a list of one tensor for each sample."""
    return output if isinstance(output, Tensor) else output[0]


@contextmanager
def replaced(*methods: "tuple[Any, str, Any]") -> Iterator[None]:
    """Replace methods by other functions: (object, name, function) each."""
    for thing, name, value in methods:
        thing.__dict__[name] = value
    try:
        yield
    finally:
        for thing, name, _ in methods:
            del thing.__dict__[name]


def _arguments(names: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    """Return arguments by their names; those of ``**kwargs`` stand among the others."""
    found: dict[str, Any] = {}
    for name, value in names.bind(*args, **kwargs).arguments.items():
        if names.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            found |= value
        else:
            found[name] = value
    return found


def _copied(value: Any) -> Any:
    """Return a copy of tensors, which pipelines may change in place; other values as they are."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(each) for each in value) if type(value) in (list, tuple) else value
    return value
