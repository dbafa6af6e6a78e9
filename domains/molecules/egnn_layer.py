"""The layer of the equivariant network and its features of distances."""

import math

import torch
from torch import Tensor, nn
from typing_extensions import override

from domains.molecules.pairs import Pairs

CLOSE = 1e-8  # Å², keeps the derivative of the distance of coinciding atoms finite
DEGREE = math.sqrt(8)  # divides a sum of messages, which come from about 8 neighbours
NEAREST = 0.5  # Å, centre of the first Gaussian


class Layer(nn.Module):
    """One message-passing layer, for any layout of pairs.

    Args:
        width: Features of an atom and of a pair.
        basis: Features of a distance.
    """

    def __init__(self, width: int, basis: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.time = nn.Linear(width, width)
        self.ends = nn.Linear(width, width)
        self.distance = nn.Linear(basis, width, bias=False)
        self.pair = nn.Linear(width, width, bias=False)
        self.mix = nn.Linear(width, width)
        self.shift = nn.Linear(width, 1, bias=False)
        self.node = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.gain = nn.Linear(width, 1)
        nn.init.normal_(self.shift.weight, std=1e-3)
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)

    @override
    def forward(
        self, h: Tensor, x: Tensor, pair: Tensor, clock: Tensor, pairs: Pairs, basis: nn.Module
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return features and positions of the atoms and features of the pairs after the layer."""
        normed = self.norm(h) + self.time(clock)
        difference = pairs.difference(x)
        distance = length(difference)
        m = nn.functional.silu(pairs.sum_ends(self.ends(normed)) + self.distance(basis(distance)) + self.pair(pair))
        m = nn.functional.silu(self.mix(m))
        messages, shifts = pairs.aggregate(m, difference * (self.shift(m) / (distance + 1)))
        h = h + self.node(torch.cat([normed, messages / DEGREE], -1))
        return h, x + shifts * self.gain(clock).exp(), pair + m


def length(difference: Tensor) -> Tensor:
    """Return (..., 1) lengths of vectors (..., 3)."""
    return (difference.square().sum(-1, keepdim=True) + CLOSE).sqrt()


class DistanceBasis(nn.Module):
    """Features of a distance d: Gaussians, and d itself for long distances.

    Gaussians are narrower at short distances.

    The centres lie evenly in log(d + 1/2). The width of a Gaussian is the distance to the next centre.

    Args:
        size: Number of Gaussians.
        reach: Å, centre that a further Gaussian would have.
    """

    centres: Tensor

    def __init__(self, size: int, reach: float) -> None:
        super().__init__()
        self.reach = reach
        ends = math.log(NEAREST + 0.5), math.log(reach + 0.5)
        self.register_buffer("centres", torch.linspace(*ends, size + 1).exp() - 0.5, persistent=False)

    @override
    def forward(self, distance: Tensor) -> Tensor:
        """Return (..., size + 1) features of distances (..., 1)."""
        offset = (distance - self.centres[:-1]) / self.centres.diff()
        return torch.cat([(-0.5 * offset**2).exp(), distance / self.reach], -1)
