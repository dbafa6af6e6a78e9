"""The contract of filters, and the application of several."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from graft.core.recorded_arguments import Described
from graft.errors import GraftError


@dataclass
class AcceptedHistory:
    """Accepted draws of an earlier round.

    Attributes:
        keys: Key of each accepted draw.
        groups: (A,) integer of the condition of each.
        features: (A, d) features of each; None if no filter needs them.
    """

    keys: Sequence[str]
    groups: Tensor
    features: "Tensor | None" = None


@dataclass
class Candidates:
    """Draws of a round, before and after filters.

    Attributes:
        rewards: (n,) larger is better; NaN for a failed reward, whose draw is not a candidate.
        keys: Canonical key of each draw; an empty key equals no other.
        groups: (n,) integer of the condition of each draw.
        features: (n, d) features of each draw; None if no filter needs them.
        known: (n,) bool, True if the training data have an object of that key; None if no filter needs it.
        eligible: (n,) bool, draws that the rule may choose from.
        interchangeable: (n,) bool, rejected draws that are duplicates of an eligible one and lost to it by chance
            alone: any of them could have been the one. Their acceptance weight is shared when the KL is computed.
        rejected_by: Number of draws that each filter rejected, by its description.
    """

    rewards: Tensor
    keys: Sequence[str]
    groups: Tensor
    features: "Tensor | None" = None
    known: "Tensor | None" = None

    def __post_init__(self) -> None:
        self.eligible = ~self.rewards.isnan()
        self.interchangeable = torch.zeros_like(self.eligible)
        self.rejected_by: Counter[str] = Counter()


class Filter(Described, ABC):
    """Rejects draws before the acceptance rule ranks the rest.

    The KL of a round is then that of the accepted distribution to the distribution of the draws, given the draws that
    earlier rounds accepted: a rejected draw is accepted with probability 0, like one with a failed reward, and the
    weight of a key with one draw chosen by chance is shared over all draws that could have been chosen. It is the KL of
    this round alone. With a memory it has no closed form, since rejection depends on earlier acceptance. The acceptance
    rate counts rejected draws among the draws.
    """

    # hooks that the domain must implement, among "keys", "features", "known"
    requires: frozenset[str] = frozenset({"keys"})
    hint: str = "draw more, or leave the filter out"  # advice in the message if no draw is left

    @abstractmethod
    def __call__(
        self, draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        """Return two masks: eligible draws, and rejected draws that are interchangeable with one.

        Args:
            draws: Draws of this round; ``draws.eligible`` marks those that earlier filters left.
            past: Accepted draws of each earlier round, the oldest first.
            generator: Generator that chooses among equal draws.

        Returns:
            (n,) bool, a part of ``draws.eligible``; (n,) bool, a part of the rejected draws
            (`Candidates.interchangeable`).
        """

    @abstractmethod
    def __str__(self) -> str:
        """Return the filter in a few words."""


def apply_filters(
    filters: Iterable[Filter], draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
) -> Candidates:
    """Apply filters in order, each to the draws that the one before left.

    Raises:
        GraftError: A filter leaves no draw.
    """
    for each in filters:
        before = int(draws.eligible.sum())
        if not before:
            break  # the reward failed for all draws; the rule reports it
        left, duplicates = each(draws, past, generator)
        draws.rejected_by[str(each)] += before - int(left.sum())
        draws.eligible, draws.interchangeable = left, draws.interchangeable | duplicates
        if not bool(left.any()):
            raise GraftError(
                f"the filter '{each}' rejects all {before} candidates that are left of {len(draws.rewards)} draws: "
                f"{each.hint}"
            )
    return draws
