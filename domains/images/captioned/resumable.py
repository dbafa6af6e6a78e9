"""A training loop that an interrupted run resumes exactly."""

import math
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from graft.core.finite import require_finite_step
from graft.errors import GraftError
from graft.io.tensors import read_tensors, write_tensors


def train(
    network: nn.Module,
    loss: Callable[[int], Tensor],
    steps: int,
    learning_rate: float,
    checkpoint: Path,
    settings: dict[str, Any],
    average: float = 0.995,
    every_seconds: float = 120.0,
) -> None:
    """Train a network by AdamW, and give it the average of its weights.

    Args:
        network: Network in training mode.
        loss: Function from the number of a step to its loss; it draws its own batch from that number.
        steps: Number of optimizer steps; the learning rate rises and falls once in them.
        learning_rate: Highest learning rate.
        checkpoint: File of the interrupted training; it is removed at the end.
        settings: Settings of the training, which the checkpoint must share.
        average: Decay of the average of the weights.
        every_seconds: Time between two checkpoints.

    Raises:
        GraftError: The checkpoint is of another training.
        NotFiniteError: The loss or the gradient of a step is not finite.
    """
    parameters = dict(network.named_parameters())
    averages = {name: value.detach().clone() for name, value in parameters.items()}
    optimizer = AdamW(parameters.values(), learning_rate, weight_decay=1e-2)
    first = _resume(checkpoint, settings, network, averages, optimizer)
    saved, recent = monotonic(), 0.0
    for step in range(first, steps):
        rate = learning_rate * _share_of_rate(step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        value = loss(step)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        require_finite_step(value, network.parameters(), step + 1, rate)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        decay = min(average, (step + 1) / (step + 10))  # the first weights are forgotten soon
        with torch.no_grad():
            for name, parameter in parameters.items():
                averages[name].lerp_(parameter, 1 - decay)
        recent = 0.98 * recent + 0.02 * value.item()
        if (step + 1) % 50 == 0:
            shown = recent / (1 - 0.98 ** (step + 1 - first))
            print(f"{checkpoint.stem}: step {step + 1} of {steps}, loss {shown:.4f}", flush=True)
        if monotonic() - saved > every_seconds:
            _save(checkpoint, settings, step + 1, network, averages, optimizer)
            saved = monotonic()
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(averages[name])
    network.eval()


def _save(
    path: Path,
    settings: dict[str, Any],
    step: int,
    network: nn.Module,
    averages: dict[str, Tensor],
    optimizer: AdamW,
) -> None:
    tensors = {f"network/{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in averages.items()}
    for name, parameter in network.named_parameters():
        for kind, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{kind}/{name}"] = torch.as_tensor(value)
    write_tensors(path, tensors, {"settings": settings, "step": step})


def _resume(
    path: Path,
    settings: dict[str, Any],
    network: nn.Module,
    averages: dict[str, Tensor],
    optimizer: AdamW,
) -> int:
    """Load a checkpoint if there is one, and return the number of steps that are done."""
    if not path.exists():
        return 0
    tensors, about = read_tensors(path)
    if about.get("settings") != settings:
        raise GraftError(f"{path} is of a training with other settings: remove it, or give the settings of that one")
    network.load_state_dict({name[8:]: value for name, value in tensors.items() if name.startswith("network/")})
    for name, parameter in network.named_parameters():
        averages[name].copy_(tensors[f"average/{name}"])
        kinds = ("step", "exp_avg", "exp_avg_sq")
        optimizer.state[parameter] = {kind: tensors[f"optimizer/{kind}/{name}"].clone() for kind in kinds}
    return int(about["step"])


def _share_of_rate(step: int, steps: int) -> float:
    """Return the learning rate of a step as a share of the highest: a warm-up, then half a cosine."""
    warm = max(1, steps // 20)
    return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))
