"""Rules that accept the best of a group by rank."""

from abc import abstractmethod

import torch
from scipy.stats import binom
from torch import Tensor
from typing_extensions import override

from graft.accept.base import AcceptanceRule
from graft.accept.curve import Part, curve
from graft.accept.ties import cost

FEW = 64
"""Expected number of usable draws of a group up to which the spread of that number counts."""

RARE = 1e-9
"""Probability below which a number of usable draws is ignored."""


class Ranked(AcceptanceRule):
    """A rule that accepts a draw by its rank in its group; a(F) does not depend on the rewards."""

    @abstractmethod
    def best(self, count: int) -> tuple[float, int]:
        """Return (K, M): one of ``count`` usable draws is accepted as one of the best K of M.

        K need not be a whole number.
        """

    @override
    def information(self, rewards: Tensor, drawn: int, usable: float) -> float:
        """Return n times the integral of a log a, minus the decrease by ties."""
        n, parts = len(rewards), self._parts(len(rewards), drawn, usable)
        counts: list[int] = torch.unique(rewards, sorted=True, return_counts=True)[1].tolist()
        return n * (curve(parts).whole - cost(parts, counts))

    def _parts(self, count: int, drawn: int, usable: float) -> tuple[Part, ...]:
        """Return each (share, K, M), where another draw of the group is usable by chance."""
        if usable >= 1 or usable * drawn > FEW:
            return ((1.0, *self.best(count)),)
        parts: dict[tuple[float, int], float] = {}
        for number, share in enumerate(binom.pmf(range(drawn), drawn - 1, usable).tolist(), 1):
            if share > RARE:
                parts[self.best(number)] = parts.get(self.best(number), 0.0) + share
        return tuple((share / sum(parts.values()), *best) for best, share in parts.items())
