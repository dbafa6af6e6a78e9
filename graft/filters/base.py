"""What a filter is, and how filters follow one another."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from graft.errors import GraftError
from graft.recorded_arguments import Described


@dataclass
class AcceptedHistory:
    """What an earlier round accepted.

    Attributes:
        keys: Of each accepted draw.
        groups: (A,) integer of the condition of each.
        features: (A, d) of each; None where no filter needs them.
    """

    keys: Sequence[str]
    groups: Tensor
    features: "Tensor | None" = None


@dataclass
class Candidates:
    """A round's draws, as filters see them and as they leave them.

    Attributes:
        rewards: (n,) larger is better; NaN where the reward failed: such a draw is no candidate.
        keys: Canonical key of each; an empty one equals no other.
        groups: (n,) integer of the condition of each.
        features: (n, d) of each; None where no filter needs them.
        known: (n,) bool, the training data has an object of that key; None where no filter needs it.
        eligible: (n,) bool, what the rule may choose from.
        interchangeable: (n,) bool, draws that one of the same key stands for, to which they lost their place by chance
            alone: any of them could have been the one that was left. The KL is shared out over them.
        rejected_by: How many each filter refused, by its description.
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
    """Refuses draws before the acceptance rule ranks the rest.

    The KL that a round states is then that of the accepted law to the law of the draws, given what earlier rounds
    accepted: a refused draw is one that is accepted with probability 0, like one whose reward failed, and the place of
        a key whose draw was left by chance is shared out over all draws that it could have gone to. It is the KL of
        this round alone, and with a memory it has no closed form: what is refused depends on what was accepted before.
        The acceptance rate counts refused draws among the draws.
    """

    requires: frozenset[str] = frozenset({"keys"})  # of "keys", "features", "known": what the domain must supply
    hint: str = "draw more, or leave the filter out"  # where nothing is left

    @abstractmethod
    def __call__(
        self, draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        """Which candidates are left, and which of the others are spare; see `RepeatedRequests`.

        Args:
            draws: This round's; ``draws.eligible`` is what the filters before this one left.
            past: What each earlier round accepted, the oldest first.
            generator: For which of equals are left.

        Returns:
            (n,) bool, a part of ``draws.eligible``; (n,) bool, a part of what is refused.
        """

    @abstractmethod
    def __str__(self) -> str:
        """The filter in a few words."""


def apply_filters(
    filters: Iterable[Filter], draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
) -> Candidates:
    """Apply filters one after the other, each to what the one before left.

    Raises:
        GraftError: One leaves nothing.
    """
    for each in filters:
        before = int(draws.eligible.sum())
        if not before:
            break  # the reward failed for all: the rule says so
        left, spare = each(draws, past, generator)
        draws.rejected_by[str(each)] += before - int(left.sum())
        draws.eligible, draws.interchangeable = left, draws.interchangeable | spare
        if not bool(left.any()):
            raise GraftError(
                f"the filter '{each}' refuses all {before} candidates that are left of {len(draws.rewards)} draws: "
                f"{each.hint}"
            )
    return draws
