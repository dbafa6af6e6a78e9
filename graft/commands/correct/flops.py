"""Count the floating-point operations of a network with the counter of torch."""

import torch
from torch.utils.flop_counter import FlopCounterMode

from graft.core.state import Condition, State, size
from graft.process import Model, Process
from graft.sampler import Stage

BACKWARD = 3  # cost of a training step in forward passes, by the usual estimate


@torch.no_grad()
def count_call(process: Process, model: Model, state: State, condition: Condition) -> float:
    """Return the FLOPs of one network call for one sample, at least 1.

    Matrix products, convolutions and attention are counted; a multiply-add counts as two. A network without such
    operations counts as 1, so that costs are then numbers of calls.
    """
    with FlopCounterMode(display=False) as counter:
        process(model, state, 0.5, condition)
    total: int = counter.get_total_flops()
    return max(1.0, total / size(state))


def count_sampling(stages: "list[tuple[Stage, float]]", steps: int) -> float:
    """Return the FLOPs of sampling one sample.

    Args:
        stages: Stages, each with the FLOPs of one network call.
        steps: Number of sampler steps of a stage without its own number.
    """
    total = 0.0
    for stage, cost in stages:
        own = stage.steps if stage.steps is not None else steps
        total += stage.solver.denoiser_calls(own) * cost
    return total
