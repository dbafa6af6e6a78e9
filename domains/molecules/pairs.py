"""Pairs of distinct atoms, each once, in a dense batch or as edge lists."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch_geometric.nn import MessagePassing
from typing_extensions import override


class Pairs(ABC):
    """The pairs of distinct atoms, each once; features are in the last dimension."""

    @abstractmethod
    def sum_ends(self, node: Tensor) -> Tensor:
        """Return the sum of the features of the two atoms of each pair."""

    @abstractmethod
    def difference(self, node: Tensor) -> Tensor:
        """Return the features of the first atom of each pair minus those of the second."""

    @abstractmethod
    def aggregate(self, message: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each atom the sums of the messages and of the shifts of its pairs.

        A shift counts with + for the first atom of a pair and with - for the second.
        """


class DensePairs(Pairs):
    """All pairs (B, P) of the N rows of a padded batch.

    Sums are products with (P, N) matrices of 1 and -1.

    Args:
        mask: (B, N) 1 where an atom is.
    """

    def __init__(self, mask: Tensor) -> None:
        first, second = torch.triu_indices(mask.shape[1], mask.shape[1], 1, device=mask.device)
        one = torch.eye(mask.shape[1], dtype=mask.dtype, device=mask.device)
        self.sums, self.differences = one[first] + one[second], one[first] - one[second]
        self.there = (mask[:, first] * mask[:, second])[..., None]

    @override
    def sum_ends(self, node: Tensor) -> Tensor:
        return self.sums @ node

    @override
    def difference(self, node: Tensor) -> Tensor:
        with torch.autocast(node.device.type, enabled=False):  # bfloat16 would blur differences of positions
            return self.differences @ node.to(self.differences.dtype)

    @override
    def aggregate(self, message: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        messages = self.sums.T @ (message * self.there)
        with torch.autocast(shift.device.type, enabled=False):
            return messages, self.differences.T @ (shift.to(self.differences.dtype) * self.there)


class EdgePairs(Pairs):
    """Pairs of the atoms of all molecules of a batch, without padding.

    Args:
        pairs: (2, P) positions of the two atoms.
        nodes: Number of atoms in the batch.
        passing: Layer that sums messages.
    """

    def __init__(self, pairs: Tensor, nodes: int, passing: "SumMessages") -> None:
        self.first, self.second = pairs
        self.nodes = nodes
        self.edges, self.passing = torch.cat([pairs.flip(0), pairs], 1), passing

    @override
    def sum_ends(self, node: Tensor) -> Tensor:
        return node[self.first] + node[self.second]

    @override
    def difference(self, node: Tensor) -> Tensor:
        return node[self.first] - node[self.second]

    @override
    def aggregate(self, message: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.cat([torch.cat([message, message]), torch.cat([shift, -shift])], -1)
        out = self.passing(self.edges, both, self.nodes)
        return out[:, :-3], out[:, -3:]


class SumMessages(MessagePassing):  # type: ignore[misc]
    """Sum the messages of edges at their second ends."""

    @override
    def forward(self, edges: Tensor, messages: Tensor, nodes: int) -> Tensor:
        """Return (nodes, width) sums of messages (E, width) along edges (2, E)."""
        out: Tensor = self.propagate(edges, messages=messages, size=(nodes, nodes))
        return out

    @override
    def message(self, messages: Tensor) -> Tensor:
        return messages


def complete_graph_pairs(counts: Tensor) -> Tensor:
    """Return (2, P) pairs of distinct nodes, each once, in graphs of ``counts`` (B,) nodes."""
    start = counts.cumsum(0) - counts
    squares = counts * counts
    graph = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), squares)
    within = torch.arange(len(graph), device=counts.device) - (squares.cumsum(0) - squares)[graph]
    first, second = within // counts[graph], within % counts[graph]
    keep = first < second
    return torch.stack([(start[graph] + first)[keep], (start[graph] + second)[keep]])
