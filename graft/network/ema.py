"""Exponential moving average of the trainable parameters."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.func import functional_call

from graft.core.state import Condition, State


class EMA(nn.Module):
    """An average of the trained parameters of a model.

    It is a module of buffers, so that checkpoints hold it and devices move it. A buffer has the name of its parameter.

    Args:
        model: Model with the parameters; parameters without a gradient are not averaged.
        decay: Decay of the average in a step; the first steps use (1 + step) / (10 + step) while that is less.

    Attributes:
        step: Number of updates.
    """

    step: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        for name, parameter in trainable_parameters(model).items():
            self.register_buffer(_buffer(name), parameter.detach().clone())

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the parameters of ``model``."""
        self.step += 1
        step = int(self.step)
        self.lerp(model, 1 - min(self.decay, (1 + step) / (10 + step)))

    @torch.no_grad()
    def lerp(self, model: nn.Module, share: float) -> None:
        """Move the average by ``share`` of the way to the parameters of ``model``."""
        for name, parameter in trainable_parameters(model).items():
            # lerp_ may fuse two roundings into one, depending on how the tensor is sharded
            self.get_buffer(_buffer(name)).mul_(1 - share).add_(parameter.detach() * share)

    def as_function(self, model: nn.Module) -> Callable[..., State]:
        """Return ``model`` with the averaged parameters, as a function without a gradient."""
        parameters = {name: self.get_buffer(_buffer(name)) for name in trainable_parameters(model)}
        sharded = any(isinstance(parameter, DTensor) for parameter in parameters.values())

        @torch.no_grad()
        def averaged(state: State, time: Tensor, condition: Condition) -> State:
            if sharded:  # a sharded network gathers its own parameters and ignores those of a functional call
                with self.average_parameters(model):
                    output: State = model(state, time, condition)
            else:
                output = functional_call(model, parameters, (state, time, condition))
            return output

        return averaged

    @contextmanager
    def average_parameters(self, model: nn.Module) -> Iterator[None]:
        """Give ``model`` the averaged parameters within the block."""
        parameters = trainable_parameters(model)
        kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(self.get_buffer(_buffer(name)))
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in parameters.items():
                    parameter.copy_(kept[name])


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that need a gradient, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _buffer(name: str) -> str:
    return name.replace(".", "/")  # torch allows no dot in the name of a buffer
