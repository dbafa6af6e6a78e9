"""Nothing that is nearly like something better."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

from graft.errors import GraftError
from graft.filters.base import AcceptedHistory, Candidates, Filter

BLOCK = 512  # draws that are compared at once: bounds the memory of the comparison


class Similarity(Filter):
    """A draw too similar to a better one that is left, or to one that an earlier round accepted, is refused.

    Greedy from the best reward, equals in random order: what is left is a maximal set of draws no two of which are more
    similar than the threshold (as in the diversity filters of Blaschke et al. 2020, with features in the place of
    scaffolds). A draw without features (all 0) is similar to none.

    Args:
        threshold: The largest similarity that is left, in [0, 1).
        measure: Of features a and b: ``tanimoto``, a·b / (|a|² + |b|² − a·b), of sets of bits the share of the union
            that is in both, 1 for equal features alone; ``cosine``, a·b / (|a| |b|), which does not see size.
        group_by: ``condition``: draws of one condition are compared; ``global``: all.
        rounds: Only this many rounds before the present one are compared with; ``null``: all; 0: none.
    """

    requires = frozenset({"keys", "features"})
    hint = "raise 'threshold', draw more, or forget earlier rounds with a 'window'"

    def __init__(
        self,
        threshold: float = 0.9,
        measure: Literal["tanimoto", "cosine"] = "tanimoto",
        group_by: Literal["condition", "global"] = "condition",
        rounds: "int | None" = None,
    ) -> None:
        if not 0 <= threshold < 1:
            raise GraftError(f"threshold is {threshold:g}, but a similarity above which draws are refused is in [0, 1)")
        if rounds is not None and rounds < 0:
            raise GraftError(f"rounds is {rounds}, but it counts rounds: 0 or more, or null for all")
        self.threshold, self.measure, self.group_by, self.rounds = threshold, measure, group_by, rounds

    def __call__(
        self, draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        """See `Filter.__call__`."""
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
            free = torch.ones(len(order[block]), dtype=torch.bool)
            for others, theirs in earlier:
                same = (groups[block, None] == theirs) if self.group_by == "condition" else torch.tensor(True)
                free &= ~((similar(features[block], others) > self.threshold) & same).any(1)
            near = (similar(features[block], features[block]) > self.threshold) & (groups[block, None] == groups[block])
            for i in free.nonzero()[:, 0].tolist():
                kept[start + i] = not bool((near[i, :i] & kept[start : start + i]).any())
        left = torch.zeros_like(draws.eligible)
        left[order[kept]] = True
        return left, self._spare(draws, left)

    def _spare(self, draws: Candidates, left: Tensor) -> Tensor:
        """Refused draws with the key and the reward of one that is left: the order among them was random."""
        rewards = draws.rewards.tolist()
        places = {(draws.keys[i], rewards[i]) for i in left.nonzero()[:, 0].tolist() if draws.keys[i]}
        spare = torch.zeros_like(left)
        for i in (draws.eligible & ~left).nonzero()[:, 0].tolist():
            spare[i] = (draws.keys[i], rewards[i]) in places
        return spare

    def __str__(self) -> str:
        return f"{self.measure} similarity at most {self.threshold:.4g}"


def tanimoto(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) of features (n, d) and (m, d); 0 where both are 0."""
    dot = a @ b.T
    union = a.square().sum(1)[:, None] + b.square().sum(1) - dot
    return torch.where(union > 0, dot / union.clamp(min=1e-300), 0.0)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) of features (n, d) and (m, d); 0 where one is 0."""
    norm = a.norm(dim=1)[:, None] * b.norm(dim=1)
    return torch.where(norm > 0, a @ b.T / norm.clamp(min=1e-300), 0.0)


MEASURES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"tanimoto": tanimoto, "cosine": cosine}
