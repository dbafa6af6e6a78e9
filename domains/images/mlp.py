"""A network that costs next to nothing, for correctors: noise is close to Gaussian, so there is little to say."""

import math

import torch
from torch import Tensor, nn

from graft.state import Condition


class SmallMLP(nn.Module):
    """Residual layers on the flattened state and sines of the time; it says 0 before it is trained.

    Args:
        size: Numbers in a state.
        width: Of the hidden layers.
        depth: Number of them.
        classes: Number of labels that it is told; ``null``: none.
    """

    def __init__(self, size: int, width: int = 128, depth: int = 2, classes: "int | None" = None) -> None:
        super().__init__()
        self.first = nn.Linear(size + 8, width)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.label = nn.Embedding(classes, width) if classes is not None else None
        self.last = nn.Linear(width, size)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, state: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """The output (B, ...) for a state at time (B,) in [0, 1]."""
        waves = math.pi * 2.0 ** torch.arange(4, device=time.device) * time[:, None]
        hidden: Tensor = self.first(torch.cat([state.flatten(1), waves.sin(), waves.cos()], 1))
        if self.label is not None:
            hidden = hidden + self.label(condition["label"])
        for layer in self.layers:
            hidden = hidden + layer(nn.functional.silu(hidden))
        out: Tensor = self.last(nn.functional.silu(hidden))
        return out.reshape(state.shape)
