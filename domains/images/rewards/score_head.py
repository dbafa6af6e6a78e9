"""A stack of linear layers from an embedding to one number, as ImageReward and LAION's predictor have it."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from graft.errors import GraftError


def score_head(tensors: "Mapping[str, Tensor]", width: int, what: str) -> nn.Sequential:
    """Return the network of the tensors ``layers.<n>.weight`` and ``layers.<n>.bias``.

    Both models have no activation between the layers, and dropout layers without tensors.

    Args:
        tensors: Tensors of the head by name.
        width: Number of values of an embedding.
        what: Name of the head in messages.

    Raises:
        GraftError: The tensors make no such stack.
    """
    numbers = sorted(int(match[1]) for name in tensors if (match := re.fullmatch(r"layers\.(\d+)\.weight", name)))
    layers, size = nn.Sequential(), width
    for number in numbers:
        weight, bias = tensors[f"layers.{number}.weight"], tensors.get(f"layers.{number}.bias")
        if weight.ndim != 2 or weight.shape[1] != size or bias is None or bias.shape != weight.shape[:1]:
            raise GraftError(
                f"{what} has layers.{number} of shape {tuple(weight.shape)}; it must take {size} values and have a "
                "bias. Give the head of this model"
            )
        layer = nn.Linear(size, len(weight))
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers.append(layer)
        size = len(weight)
    if not numbers or size != 1:
        raise GraftError(f"{what} gives {size} values; it must be linear layers that give one. Give the head's file")
    return layers
