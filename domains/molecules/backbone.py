"""E(3)-equivariant denoisers of molecules: one network, written for dense batches and as torch_geometric messages.

The layer is that of EGNN (Satorras et al. 2021, eqs. 3 to 6) on the complete graph, changed where it pays on a CPU: a
pair of atoms has one message for both of its ends, half the work, and keeps its features from layer to layer. Both
classes have the same parameters, so a checkpoint of one loads into the other.
"""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from graft.process.schedules import PolynomialSchedule, Schedule
from graft.state import Condition, State

CLOSE = 1e-8  # Å², keeps the derivative of the distance of coinciding atoms finite
DEGREE = math.sqrt(8)  # messages of about so many neighbours are summed
NEAREST = 0.5  # Å, centre of the first Gaussian


class Pairs(ABC):
    """The pairs of distinct atoms, each once, in some layout of atoms and pairs; width is the last dimension."""

    @abstractmethod
    def sum_ends(self, node: Tensor) -> Tensor:
        """The sum of the features of a pair's two atoms."""

    @abstractmethod
    def difference(self, node: Tensor) -> Tensor:
        """The first atom's features less the second's."""

    @abstractmethod
    def aggregate(self, message: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """For each atom the sum of its pairs' messages, and of their shifts: + where it is first, - where second."""


class Layer(nn.Module):
    """One layer, in whatever layout."""

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

    def forward(
        self, h: Tensor, x: Tensor, pair: Tensor, clock: Tensor, pairs: Pairs, basis: nn.Module
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Atoms' features and positions and pairs' features after the layer."""
        normed = self.norm(h) + self.time(clock)
        difference = pairs.difference(x)
        distance = length(difference)
        m = nn.functional.silu(pairs.sum_ends(self.ends(normed)) + self.distance(basis(distance)) + self.pair(pair))
        m = nn.functional.silu(self.mix(m))
        told, moved = pairs.aggregate(m, difference * (self.shift(m) / (distance + 1)))
        h = h + self.node(torch.cat([normed, told / DEGREE], -1))
        return h, x + moved * self.gain(clock).exp(), pair + m


def length(difference: Tensor) -> Tensor:
    """(..., 1) length of (..., 3)."""
    return (difference.square().sum(-1, keepdim=True) + CLOSE).sqrt()


class DistanceBasis(nn.Module):
    """Features of a distance: Gaussians, narrower where it is shorter, and the distance itself for the far ones.

    The centres lie evenly in log(d + 1/2), each as wide as the way to the next.

    Args:
        size: Number of Gaussians.
        reach: Å, where the centre after the last Gaussian's would be.
    """

    centres: Tensor

    def __init__(self, size: int, reach: float) -> None:
        super().__init__()
        self.reach = reach
        ends = math.log(NEAREST + 0.5), math.log(reach + 0.5)
        self.register_buffer("centres", torch.linspace(*ends, size + 1).exp() - 0.5, persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """(..., size + 1) features of distances (..., 1)."""
        offset = (distance - self.centres[:-1]) / self.centres.diff()
        return torch.cat([(-0.5 * offset**2).exp(), distance / self.reach], -1)


class EGNN(nn.Module):
    """Denoiser of {"x": (B, N, 3) Å, "h": (B, N, types)} for dense batches.

    Called with (state, time (B,), condition) where condition["mask"] (B, N) says which atoms are there; returns "x", an
    equivariant estimate of x_0 with zero centre of mass, and "h", invariant logits of the types.

    Args:
        num_types: Number of atom types.
        hidden_dim: Features of an atom and of a pair.
        num_layers: Number of message-passing layers.
        num_rbf: Gaussians that a distance is expanded in.
        cutoff: Å, the distance up to which they are.
        schedule: Of the process that adds noise to x, which says how far x itself is to be trusted as an estimate of
            x_0; `PolynomialSchedule` if not given.
        sigma_data: Å, standard deviation of the data's coordinates.
        bond_loss_weight: Share, in the loss of data, of the cross-entropy of all pairs' bonds, see
            `bonds.cross_entropy`; above 0 the network has a head for them. No sampler asks it: leave it out in
            fine-tuning, and a checkpoint's head is left out with it.
    """

    auxiliary = ("bonds.",)  # see `graft.network.weights`

    def __init__(
        self,
        num_types: int,
        hidden_dim: int = 64,
        num_layers: int = 5,
        num_rbf: int = 20,
        cutoff: float = 6.0,
        schedule: "Schedule | None" = None,
        sigma_data: float = 1.0,
        bond_loss_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden_dim, self.variance, self.schedule = hidden_dim, sigma_data**2, schedule or PolynomialSchedule()
        self.basis = DistanceBasis(num_rbf, cutoff)
        self.embed = nn.Linear(num_types + 1, hidden_dim)
        self.pair = nn.Linear(num_rbf + 1, hidden_dim)
        self.clock = nn.Sequential(
            nn.Linear(hidden_dim, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, hidden_dim), nn.SiLU()
        )
        self.layers = nn.ModuleList(Layer(hidden_dim, num_rbf + 1) for _ in range(num_layers))
        self.types = nn.Sequential(
            nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, hidden_dim), nn.SiLU(), nn.Linear(hidden_dim, num_types)
        )
        self.share, self.bonds = bond_loss_weight, nn.Linear(hidden_dim, 4) if bond_loss_weight else None
        self.bond_logits: list[
            Tensor
        ] = []  # the logits (..., 4) of the order, 0 to 3, of every pair's bond in the last call

    def forward(self, state: State, time: Tensor, condition: Condition) -> State:
        """See the class."""
        assert isinstance(state, dict)
        mask = condition["mask"].to(state["x"].dtype)
        nodes = mask[..., None]
        x, logits = self.denoise(
            state["x"] * nodes,
            torch.cat([state["h"], (mask.sum(1)[:, None, None] / 10).expand(*mask.shape, 1)], -1),
            self.embed_time(time)[:, None],
            self.c_skip(time)[:, None, None],
            DensePairs(mask),
        )
        x = (x - (x * nodes).sum(1, keepdim=True) / nodes.sum(1, keepdim=True)) * nodes
        return {"x": x, "h": logits * nodes}

    def denoise(self, x: Tensor, h: Tensor, clock: Tensor, trust: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """(estimate of x_0, logits) in the layout of ``pairs``."""
        start, pair = x, self.pair(self.basis(length(pairs.difference(x))))
        h = self.embed(h)
        for layer in self.layers:
            h, x, pair = layer(h, x, pair, clock, pairs, self.basis)
        if self.bonds is not None:
            self.bond_logits = [self.bonds(pair)] if torch.is_grad_enabled() or self.training else []
        return x - start + trust * start, self.types(h)

    def embed_time(self, time: Tensor) -> Tensor:
        """(B, width) features of the process's time in [0, 1]."""
        frequency = torch.exp(torch.linspace(0, math.log(1000.0), self.hidden_dim // 2, device=time.device))
        angle = (time[:, None] * frequency).to(self.embed.weight.dtype)
        out: Tensor = self.clock(torch.cat([angle.sin(), angle.cos()], -1))
        return out

    def c_skip(self, time: Tensor) -> Tensor:
        """(B,) c of the best estimate c x_t of x_0 that knows no more than the spread of the data."""
        alpha, sigma = self.schedule.alpha_sigma(time.double())
        return (alpha * self.variance / (alpha**2 * self.variance + sigma**2)).to(self.embed.weight.dtype)


class DensePairs(Pairs):
    """All pairs (B, P) of the N rows of a padded batch (B, N); sums are products with matrices (P, N) of 1 and -1."""

    def __init__(self, mask: Tensor) -> None:
        first, second = torch.triu_indices(mask.shape[1], mask.shape[1], 1, device=mask.device)
        one = torch.eye(mask.shape[1], dtype=mask.dtype, device=mask.device)
        self.sums, self.differences = one[first] + one[second], one[first] - one[second]
        self.there = (mask[:, first] * mask[:, second])[..., None]

    def sum_ends(self, node: Tensor) -> Tensor:
        """See `Pairs.sum_ends`."""
        return self.sums @ node

    def difference(self, node: Tensor) -> Tensor:
        """See `Pairs.difference`; of positions, whose differences bfloat16 would blur."""
        with torch.autocast(node.device.type, enabled=False):
            return self.differences @ node.to(self.differences.dtype)

    def aggregate(self, message: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """See `Pairs.aggregate`."""
        told = self.sums.T @ (message * self.there)
        with torch.autocast(shift.device.type, enabled=False):
            return told, self.differences.T @ (shift.to(self.differences.dtype) * self.there)


class MessagePassingEGNN(EGNN):
    """The same network on torch_geometric's edge lists, which has no work with padding.

    Takes and returns dense batches as `EGNN` does, and has the same arguments.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.passing = SumMessages()

    def forward(self, state: State, time: Tensor, condition: Condition) -> State:
        """See `EGNN`."""
        assert isinstance(state, dict)
        there = condition["mask"].bool()
        counts = there.sum(1)
        batch = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        x, logits = self.denoise(
            state["x"][there],
            torch.cat([state["h"][there], (counts.to(state["h"].dtype) / 10)[batch, None]], -1),
            self.embed_time(time)[batch],
            self.c_skip(time)[batch, None],
            EdgePairs(complete_graph_pairs(counts), len(batch), self.passing),
        )
        centre = x.new_zeros(len(counts), 3).index_add(0, batch, x) / counts[:, None]
        return {
            "x": torch.zeros_like(state["x"]).masked_scatter(there[..., None], x - centre[batch]),
            "h": torch.zeros_like(state["h"]).masked_scatter(there[..., None], logits.to(state["h"].dtype)),
        }


class EdgePairs(Pairs):
    """Pairs (2, P) of the atoms of all molecules of a batch in a row."""

    def __init__(self, pairs: Tensor, nodes: int, passing: "SumMessages") -> None:
        self.first, self.second = pairs
        self.nodes = nodes
        self.edges, self.passing = torch.cat([pairs.flip(0), pairs], 1), passing

    def sum_ends(self, node: Tensor) -> Tensor:
        """See `Pairs.sum_ends`."""
        return node[self.first] + node[self.second]

    def difference(self, node: Tensor) -> Tensor:
        """See `Pairs.difference`."""
        return node[self.first] - node[self.second]

    def aggregate(self, message: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """See `Pairs.aggregate`."""
        told = torch.cat([torch.cat([message, message]), torch.cat([shift, -shift])], -1)
        out = self.passing(self.edges, told, self.nodes)
        return out[:, :-3], out[:, -3:]


class SumMessages(MessagePassing):  # type: ignore[misc]
    """Sums what is told along edges at their second ends."""

    def forward(self, edges: Tensor, told: Tensor, nodes: int) -> Tensor:
        """(nodes, width) from edges (2, E) and what each tells (E, width)."""
        out: Tensor = self.propagate(edges, told=told, size=(nodes, nodes))
        return out

    def message(self, told: Tensor) -> Tensor:
        """The edge's own."""
        return told


def complete_graph_pairs(counts: Tensor) -> Tensor:
    """(2, P) all pairs of distinct nodes, each once, within graphs of the given sizes (B,)."""
    start = counts.cumsum(0) - counts
    squares = counts * counts
    graph = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), squares)
    within = torch.arange(len(graph), device=counts.device) - (squares.cumsum(0) - squares)[graph]
    first, second = within // counts[graph], within % counts[graph]
    keep = first < second
    return torch.stack([(start[graph] + first)[keep], (start[graph] + second)[keep]])
