"""Small networks that domains train for features and rewards: the loop, and their files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from graft.core.finite import require_finite_network, require_finite_step
from graft.errors import GraftError
from graft.io.paths import find_file
from graft.io.tensors import read_tensors, write_tensors

Network = TypeVar("Network", bound=nn.Module)
Schedule = Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]


@dataclass
class Accuracy:
    """Shares of right answers of a classifier.

    Attributes:
        training: Share on training samples.
        held_out: Share on samples that the training did not use.
    """

    training: float
    held_out: float


def seeded_network(build: Callable[[], Network], seed: int) -> Network:
    """Return a new network, its weights drawn with ``seed``; torch's own generator is as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def minimise(
    network: nn.Module,
    loss: Callable[[], Tensor],
    steps: int,
    learning_rate: float,
    schedule: Schedule,
    max_norm: "float | None" = None,
) -> None:
    """Train a network by AdamW with weight decay 0.01, and set it to evaluation.

    Args:
        network: Network in training mode.
        loss: Function that draws a batch and returns its loss.
        steps: Number of optimizer steps.
        learning_rate: Highest learning rate.
        schedule: Function from the optimizer to the schedule of the learning rate.
        max_norm: Norm to which gradients are clipped; None for no clipping.

    Raises:
        NotFiniteError: The loss or the gradient of a step is not finite.
    """
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=1e-2)
    rates = schedule(optimizer)
    for step in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        require_finite_step(value, network.parameters(), step + 1, float(rates.get_last_lr()[0]))
        if max_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), max_norm)
        optimizer.step()
        rates.step()
    network.eval()


def save_network(
    network: nn.Module, path: "str | Path", kind: str, settings: dict[str, Any], about: dict[str, Any]
) -> None:
    """Write the weights of a network and the settings that `load_network` builds it from.

    Args:
        network: Network to write.
        path: File for the weights, ``.safetensors``.
        kind: Name in the header under which the settings stand.
        settings: Arguments for the constructor.
        about: Further entries of the header.

    Raises:
        NotFiniteError: A weight is not finite; nothing is written.
    """
    require_finite_network(network, f"{path} was not written", "lower learning_rate")
    write_tensors(path, dict(network.state_dict()), {kind: settings, **about})


def load_network(
    path: "str | Path", kind: str, build: Callable[..., Network], missing: str
) -> tuple[Network, dict[str, Any]]:
    """Return a frozen network and its settings from a file that `save_network` wrote.

    Args:
        path: File of the weights, by path or by name.
        kind: Name in the header under which the settings stand.
        build: Function from the settings to a network.
        missing: Message about a file of another kind, after its path.

    Raises:
        GraftError: There is no such file, it holds another kind of network, or a weight is not finite.
    """
    tensors, about = read_tensors(find_file(path))
    try:
        settings: dict[str, Any] = about[kind]
        network = build(**settings)
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError):
        raise GraftError(f"{path} {missing}") from None
    require_finite_network(network, path, "give another file")
    return network.requires_grad_(False).eval(), settings
