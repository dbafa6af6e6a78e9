"""Rules that accept the best of a group by rank."""

from abc import abstractmethod

import torch
from scipy.stats import binom
from torch import Tensor

from graft.accept.base import AcceptanceRule
from graft.accept.curve import Part, curve
from graft.accept.ties import cost

FEW = 64  # expected usable draws of a group up to which the spread of their number counts
RARE = 1e-9  # numbers of usable draws less likely than this are left out


class Ranked(AcceptanceRule):
    """A rule that accepts a draw by how many of its group are above it, so a(F) does not depend on the rewards."""

    @abstractmethod
    def best(self, count: int) -> tuple[float, int]:
        """Return (K, M): a draw among ``count`` usable ones is accepted as one of the best K of M. K may be broken."""

    def information(self, rewards: Tensor, drawn: int, usable: float) -> float:
        """See `AcceptanceRule.information`: the integral of a log a, less what ties take off."""
        n, parts = len(rewards), self._parts(len(rewards), drawn, usable)
        counts: list[int] = torch.unique(rewards, sorted=True, return_counts=True)[1].tolist()
        return n * (curve(parts).whole - cost(parts, counts))

    def _parts(self, count: int, drawn: int, usable: float) -> tuple[Part, ...]:
        """Return (K, M) with its probability, given that each of the other draws of the group is usable by chance."""
        if usable >= 1 or usable * drawn > FEW:
            return ((1.0, *self.best(count)),)
        parts: dict[tuple[float, int], float] = {}
        for number, share in enumerate(binom.pmf(range(drawn), drawn - 1, usable).tolist(), 1):
            if share > RARE:
                parts[self.best(number)] = parts.get(self.best(number), 0.0) + share
        return tuple((share / sum(parts.values()), *best) for best, share in parts.items())
