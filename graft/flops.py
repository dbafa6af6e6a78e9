"""What a network costs: floating-point operations by torch's own counter."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from graft.process import Model, Process
from graft.sampler import Stage
from graft.state import Condition, State, size

BACKWARD = 3  # a training step costs so many forward passes, by the usual count


@torch.no_grad()
def call(process: Process, model: Model, state: State, condition: Condition) -> float:
    """Of one network call for one sample: matrix products, convolutions and attention, a multiply-add as two."""
    with FlopCounterMode(display=False) as counter:
        process(model, state, 0.5, condition)
    total: int = counter.get_total_flops()
    return total / size(state)


def sampling(stages: "list[tuple[Stage, float]]", steps: int) -> float:
    """Of one sample through stages, each with what its network costs a call; ``steps`` of the model's clock."""
    total = 0.0
    for stage, cost in stages:
        own = stage.steps if stage.steps is not None else steps
        total += stage.solver.denoiser_calls(own) * cost
    return total
