"""A small MLP for noise correctors."""

import math

import torch
from torch import Tensor, nn
from typing_extensions import override

from graft.core.state import Condition


class SmallMLP(nn.Module):
    """Residual layers on the flattened state and sines of the time.

    The output layer starts at zero.

    Args:
        size: Number of values of a state.
        width: Width of the hidden layers.
        depth: Number of hidden layers.
        classes: Number of labels in the condition; ``null`` for none.
    """

    def __init__(self, size: int, width: int = 128, depth: int = 2, classes: "int | None" = None) -> None:
        super().__init__()
        self.first = nn.Linear(size + 8, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.label = nn.Embedding(classes, width) if classes is not None else None
        self.last = nn.Linear(width, size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    @override
    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """Return the output (B, ...) for a state at time (B,) in [0, 1]."""
        waves = math.pi * 2.0 ** torch.arange(4, device=time.device) * time[:, None]
        hidden: Tensor = self.first(torch.cat([state.flatten(1), waves.sin(), waves.cos()], 1))
        if self.label is not None:
            hidden = hidden + self.label(condition["label"])
        for layer in self.layers:
            hidden = hidden + layer(nn.functional.silu(hidden))
        out: Tensor = self.last(nn.functional.silu(hidden))
        return out.reshape(state.shape)
