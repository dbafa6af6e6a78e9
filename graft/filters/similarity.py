"""Similarity: draws that are nearly like a better one are rejected."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core import limits
from graft.filters.base import AcceptedHistory, Candidates, Filter

BLOCK = 512  # draws that are compared at once, to limit memory


class Similarity(Filter):
    """Reject a draw that is too similar to a better one or to an earlier accepted one.

    The choice is greedy from the best reward, with equal rewards in random order: the draws that are left are a maximal
    set without two draws above the threshold (as in the diversity filters of Blaschke et al. 2020, with features in
    place of scaffolds). A draw without features (all 0) is similar to no other.

    Args:
        threshold: Largest similarity of two draws that are left, in [0, 1).
        measure: Similarity of features a and b: ``tanimoto``, a·b / (|a|² + |b|² − a·b), for sets of bits the share of
            the union that is in both, 1 for equal features only; ``cosine``, a·b / (|a| |b|), which ignores size.
        group_by: ``condition``: draws of one condition are compared; ``global``: all draws.
        rounds: Number of rounds before the present one that are compared; ``null`` for all, 0 for none.
    """

    requires = frozenset({"keys", "features"})
    hint = "raise 'threshold', draw more, or compare with fewer 'rounds'"

    def __init__(
        self,
        threshold: float = 0.9,
        measure: Literal["tanimoto", "cosine"] = "tanimoto",
        group_by: Literal["condition", "global"] = "condition",
        rounds: "int | None" = None,
    ) -> None:
        limits.check("threshold", threshold, 0, 1, below=True)
        limits.check("rounds", rounds, 0)
        self.threshold, self.measure, self.group_by, self.rounds = threshold, measure, group_by, rounds

    @override
    def __call__(
        self, draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        assert draws.features is not None
        similar = MEASURES[self.measure]
        mixed = torch.randperm(len(draws.eligible), generator=generator)
        order = mixed[draws.rewards[mixed].sort(descending=True, stable=True).indices]
        order = order[draws.eligible[order]]
        features, groups = draws.features[order].double(), draws.groups[order]
        if self.group_by == "global":
            groups = torch.zeros_like(groups)
        remembered = past[len(past) - min(self.rounds, len(past)) :] if self.rounds is not None else past
        seen = [(r.features.double(), r.groups) for r in remembered if r.features is not None and len(r.features)]
        kept = torch.zeros(len(order), dtype=torch.bool)
        for start in range(0, len(order), BLOCK):
            block = slice(start, start + BLOCK)
            earlier = [(features[:start][kept[:start]], groups[:start][kept[:start]]), *seen]
            different = torch.ones(len(order[block]), dtype=torch.bool)
            for others, theirs in earlier:
                same = (groups[block, None] == theirs) if self.group_by == "condition" else torch.tensor(True)
                different &= ~((similar(features[block], others) > self.threshold) & same).any(1)
            near = (similar(features[block], features[block]) > self.threshold) & (groups[block, None] == groups[block])
            for i in different.nonzero()[:, 0].tolist():
                kept[start + i] = not bool((near[i, :i] & kept[start : start + i]).any())
        left = torch.zeros_like(draws.eligible)
        left[order[kept]] = True
        return left, _interchangeable(draws, left)

    @override
    def __str__(self) -> str:
        return f"{self.measure} similarity at most {self.threshold:.4g}"


def _interchangeable(draws: Candidates, left: Tensor) -> Tensor:
    """Return rejected draws with key and reward of one that is left.

    The random order alone decided between them.
    """
    rewards = draws.rewards.tolist()
    places = {(draws.keys[i], rewards[i]) for i in left.nonzero()[:, 0].tolist() if draws.keys[i]}
    duplicates = torch.zeros_like(left)
    for i in (draws.eligible & ~left).nonzero()[:, 0].tolist():
        duplicates[i] = (draws.keys[i], rewards[i]) in places
    return duplicates


def tanimoto(a: Tensor, b: Tensor) -> Tensor:
    """Return (n, m) similarities of features (n, d) and (m, d); 0 if both are 0."""
    dot = a @ b.T
    union = a.square().sum(1)[:, None] + b.square().sum(1) - dot
    return torch.where(union > 0, dot / union.clamp(min=1e-300), 0.0)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return (n, m) similarities of features (n, d) and (m, d); 0 if one is 0."""
    norm = a.norm(dim=1)[:, None] * b.norm(dim=1)
    return torch.where(norm > 0, a @ b.T / norm.clamp(min=1e-300), 0.0)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"tanimoto": tanimoto, "cosine": cosine}
