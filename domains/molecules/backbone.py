"""E(3)-equivariant denoisers of molecules: one network, for dense batches and edge lists.

The layer is that of EGNN (Satorras et al. 2021, eqs. 3 to 6) on the complete graph, with two changes: a pair of atoms
has one message for both of its ends, which halves the work, and a pair keeps its features from layer to layer. Both
classes have the same parameters, so a checkpoint of one loads into the other.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from domains.molecules.egnn_layer import DistanceBasis, Layer, length
from domains.molecules.pairs import DensePairs, EdgePairs, Pairs, SumMessages, complete_graph_pairs
from graft.core.state import Condition, State
from graft.process.schedules import PolynomialSchedule, Schedule


class EGNN(nn.Module):
    """Denoiser of {"x": (B, N, 3) Å, "h": (B, N, types)} for dense batches.

    It is called with (state, time (B,), condition), where condition["mask"] (B, N) is 1 for an atom and 0 for padding.
    It returns "x", an equivariant estimate of x_0 with zero centre of mass, and "h", invariant logits of the types.

    Args:
        num_types: Number of atom types.
        hidden_dim: Features of an atom and of a pair.
        num_layers: Number of message-passing layers.
        num_rbf: Number of Gaussians that a distance is expanded in.
        cutoff: Å, distance that the Gaussians reach.
        schedule: Schedule of the process that adds noise to x; it decides the weight of x in the estimate of x_0.
            `PolynomialSchedule` if not given.
        sigma_data: Å, standard deviation of the data's coordinates.
        bond_loss_weight: Weight of the bonds' cross-entropy (`bond_loss.cross_entropy`) in the loss on data; above 0
            the network has a head for bonds, which no sampler uses. At 0, as in fine-tuning, a checkpoint's head is
            not loaded.
    """

    auxiliary = ("bonds.",)  # `graft.network.weights` may leave these parameters out
    thread_safe = True  # `graft.network.row_threads` may call it in several threads

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
        self.bond_logits: list[Tensor] = []
        """Logits (..., 4) of the bond order, 0 to 3, of each pair in the last call; empty without gradients."""

    @override
    def forward(self, state: State, time: Tensor, condition: Condition) -> State:
        """Return {"x": (B, N, 3) Å, "h": (B, N, types)}; padding is 0."""
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

    def denoise(self, x: Tensor, h: Tensor, clock: Tensor, c_skip: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
        """Return (estimate of x_0, logits) in the layout of ``pairs``."""
        start, pair = x, self.pair(self.basis(length(pairs.difference(x))))
        h = self.embed(h)
        for layer in self.layers:
            h, x, pair = layer(h, x, pair, clock, pairs, self.basis)
        if self.bonds is not None:
            self.bond_logits = [self.bonds(pair)] if torch.is_grad_enabled() or self.training else []
        return x - start + c_skip * start, self.types(h)

    def embed_time(self, time: Tensor) -> Tensor:
        """Return (B, hidden_dim) features of the process's time in [0, 1]."""
        frequency = torch.exp(torch.linspace(0, math.log(1000.0), self.hidden_dim // 2, device=time.device))
        angle = (time[:, None] * frequency).to(self.embed.weight.dtype)
        out: Tensor = self.clock(torch.cat([angle.sin(), angle.cos()], -1))
        return out

    def c_skip(self, time: Tensor) -> Tensor:
        """Return (B,) c, so that c x_t is the best linear estimate of x_0.

        c = α s² / (α² s² + σ²) with s = ``sigma_data``.
        """
        alpha, sigma = self.schedule.alpha_sigma(time.double())
        return (alpha * self.variance / (alpha**2 * self.variance + sigma**2)).to(self.embed.weight.dtype)


class MessagePassingEGNN(EGNN):
    """The same network on torch_geometric's edge lists, without work for padding.

    It takes and returns dense batches as `EGNN` does, and has the same arguments.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.passing = SumMessages()

    @override
    def forward(self, state: State, time: Tensor, condition: Condition) -> State:
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
