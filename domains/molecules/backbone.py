"""E(3)-equivariant denoisers of molecules: one network, written for dense batches and as torch_geometric messages.

The layer is that of EGNN (Satorras et al. 2021, eqs. 3 to 6) on the complete graph, with distances in a Gaussian basis,
attention on edges as EDM has it (Hoogeboom et al. 2022, appendix C) and the time in every layer. Both classes have the
same parameters, so a checkpoint of one loads into the other.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

from graft.state import Condition, State

CLOSE = 1e-8  # Å², keeps the derivative of the distance of coinciding atoms finite
DEGREE = math.sqrt(8)  # messages of about so many neighbours are summed
Expand = Callable[[Tensor], Tensor]


class Layer(nn.Module):
    """The parameters of one layer and its arithmetic on nodes and edges, without saying how edges are laid out."""

    def __init__(self, width: int, basis: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.time = nn.Linear(width, width)
        self.receiver = nn.Linear(width, width)
        self.sender = nn.Linear(width, width, bias=False)
        self.distance = nn.Linear(basis, width, bias=False)
        self.mix = nn.Linear(width, width)
        self.gate = nn.Linear(width, 1)
        self.node = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))
        self.shift = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1, bias=False))
        nn.init.normal_(self.shift[2].weight, std=1e-3)  # type: ignore[arg-type]

    def edge(self, received: Tensor, sent: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
        """(messages, shifts along the edge) from the two ends' features and the distance's."""
        m = nn.functional.silu(received + sent + self.distance(basis))
        m = nn.functional.silu(self.mix(m))
        return m * self.gate(m).sigmoid(), self.shift(m)


class DenseLayer(Layer):
    """`Layer` on padded batches, all pairs of N x N."""

    def forward(self, h: Tensor, x: Tensor, clock: Tensor, pairs: Tensor, expand: Expand) -> tuple[Tensor, Tensor]:
        """Node features (B, N, width) and positions (B, N, 3) after the layer; pairs (B, N, N, 1) is 1 for an edge."""
        normed = self.norm(h) + self.time(clock)
        difference = x[:, :, None] - x[:, None, :]
        distance = (difference.square().sum(-1, keepdim=True) + CLOSE).sqrt()
        m, shift = self.edge(self.receiver(normed)[:, :, None], self.sender(normed)[:, None], expand(distance))
        h = h + self.node(torch.cat([normed, (m * pairs).sum(2) / DEGREE], -1))
        return h, x + (difference / (distance + 1) * (shift * pairs)).sum(2)


class EGNN(nn.Module):
    """Denoiser of {"x": (B, N, 3) Å, "h": (B, N, types)} for dense batches.

    Called with (state, time (B,), condition) where condition["mask"] (B, N) says which atoms are there; returns "x", an
    equivariant vector with zero centre of mass, and "h", invariant logits of the types.

    Args:
        types: Number of atom types.
        width: Features of a node and of an edge.
        layers: Number of message-passing layers.
        basis: Gaussians that a distance is expanded in.
        reach: Å, centre of the last Gaussian.
    """

    layer: type[Layer] = DenseLayer

    def __init__(self, types: int, width: int = 64, layers: int = 4, basis: int = 16, reach: float = 6.0) -> None:
        super().__init__()
        self.width, self.basis, self.reach = width, basis, reach
        self.embed = nn.Linear(types + 1, width)
        self.clock = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.layers = nn.ModuleList(self.layer(width, basis + 1) for _ in range(layers))
        self.types = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, types))
        self.skip = nn.Linear(width, 1)

    def forward(self, state: State, time: Tensor, condition: Condition) -> State:
        """See the class."""
        assert isinstance(state, dict)
        mask = condition["mask"].to(state["x"].dtype)
        nodes = mask[..., None]
        pairs = (mask[:, :, None] * mask[:, None, :])[..., None]
        pairs = pairs * (1 - torch.eye(mask.shape[1], dtype=mask.dtype, device=mask.device))[..., None]
        clock = self.embed_time(time)[:, None]
        x, start = state["x"], state["x"]
        h = self.embed(torch.cat([state["h"], self.share(mask)], -1))
        for layer in self.layers:
            h, x = layer(h, x, clock, pairs, self.expand)
        x = (x - start + self.skip(clock) * start) * nodes
        x = x - x.sum(1, keepdim=True) / nodes.sum(1, keepdim=True) * nodes
        return {"x": x, "h": self.types(h) * nodes}

    def embed_time(self, time: Tensor) -> Tensor:
        """(B, width) features of the process's time in [0, 1]."""
        frequency = torch.exp(torch.linspace(0, math.log(1000.0), self.width // 2, device=time.device))
        angle = time[:, None] * frequency
        out: Tensor = self.clock(torch.cat([angle.sin(), angle.cos()], -1))
        return out

    def share(self, mask: Tensor) -> Tensor:
        """(B, N, 1) the number of atoms, in tens."""
        return (mask.sum(1)[:, None, None] / 10).expand(*mask.shape, 1)

    def expand(self, distance: Tensor) -> Tensor:
        """(..., basis + 1) features of distances (..., 1) in Å: Gaussians, and the distance itself for the far ones."""
        centre = torch.linspace(0, self.reach, self.basis, device=distance.device, dtype=distance.dtype)
        wide = self.reach / (self.basis - 1)
        return torch.cat([torch.exp(-0.5 * ((distance - centre) / wide) ** 2), distance / self.reach], -1)


class MessageLayer(Layer, MessagePassing):  # type: ignore[misc]
    """`Layer` on torch_geometric's edge lists: messages along edges j -> i, summed at i."""

    def forward(self, h: Tensor, x: Tensor, clock: Tensor, edges: Tensor, expand: Expand) -> tuple[Tensor, Tensor]:
        """Node features (V, width) and positions (V, 3) after the layer; edges (2, E)."""
        normed = self.norm(h) + self.time(clock)
        difference = x[edges[1]] - x[edges[0]]
        distance = (difference.square().sum(-1, keepdim=True) + CLOSE).sqrt()
        out = self.propagate(
            edges,
            received=self.receiver(normed),
            sent=self.sender(normed),
            basis=expand(distance),
            direction=difference / (distance + 1),
        )
        return h + self.node(torch.cat([normed, out[:, :-3] / DEGREE], -1)), x + out[:, -3:]

    def message(self, received_i: Tensor, sent_j: Tensor, basis: Tensor, direction: Tensor) -> Tensor:
        """(E, width + 3) the message and the shift of the receiver's position."""
        m, shift = self.edge(received_i, sent_j, basis)
        return torch.cat([m, direction * shift], -1)


class MessagePassingEGNN(EGNN):
    """The same network on torch_geometric's edge lists, which has no work with padding.

    Takes and returns dense batches as `EGNN` does, and has the same arguments.
    """

    layer = MessageLayer

    def forward(self, state: State, time: Tensor, condition: Condition) -> State:
        """See `EGNN`."""
        assert isinstance(state, dict)
        there = condition["mask"].bool()
        counts = there.sum(1)
        batch = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        edges = complete_edges(counts)
        clock = self.embed_time(time)
        x = start = state["x"][there]
        h = self.embed(torch.cat([state["h"][there], self.share(there.to(x.dtype))[there]], -1))
        for layer in self.layers:
            h, x = layer(h, x, clock[batch], edges, self.expand)
        x = x - start + self.skip(clock)[batch] * start
        centre = x.new_zeros(len(counts), 3).index_add(0, batch, x) / counts[:, None]
        return {
            "x": torch.zeros_like(state["x"]).masked_scatter(there[..., None], x - centre[batch]),
            "h": torch.zeros_like(state["h"]).masked_scatter(there[..., None], self.types(h)),
        }


def complete_edges(counts: Tensor) -> Tensor:
    """(2, E) sender and receiver of all ordered pairs of distinct nodes within graphs of the given sizes (B,)."""
    first = counts.cumsum(0) - counts
    pairs = counts * counts
    graph = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), pairs)
    within = torch.arange(int(pairs.sum()), device=counts.device) - (pairs.cumsum(0) - pairs)[graph]
    sender, receiver = within % counts[graph], within // counts[graph]
    keep = sender != receiver
    return torch.stack([(first[graph] + sender)[keep], (first[graph] + receiver)[keep]])
