"""What an acceptance rule is: within which draws it ranks, what it is applied to, and what comes out."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Generator, Tensor

from graft.accept.duplicates import first_of_each, spread
from graft.accept.laws import kl
from graft.accept.selection import systematic
from graft.errors import GraftError


@dataclass
class Accepted:
    """What a rule says of n draws.

    Attributes:
        index: (A,) positions of the accepted draws, ascending.
        weight: (A,) how much each counts in training, 1 on average.
        probability: (n,) of being accepted, given everyone's rewards.
        kl_nats: KL(accepted law ‖ law of the draws), from the realised rewards, in nats.
        effective: Effective number of accepted samples, (Σ w)² / Σ w².
        bins: Positions of the draws that were ranked together, for each condition.
    """

    index: Tensor
    weight: Tensor
    probability: Tensor
    kl_nats: float
    effective: float
    bins: list[Tensor] = field(default_factory=list)


class Accept(ABC):
    """A rule A non-decreasing in the reward, applied within each condition or to the whole round.

    Args:
        scope: ``condition``: ranks within a condition, so that what is given is not what is selected; ``global``.
        deduplicate: Keep one draw (at random) of those with the same key before the rule is applied.
        bin: Conditions with fewer draws than this are put together with their neighbours.
    """

    smallest: int = 1  # draws of a condition that the rule needs
    selects: bool = True  # by reward, so that what is accepted has a law of its own

    def __init__(
        self, scope: Literal["condition", "global"] = "condition", deduplicate: bool = False, bin: int = 32
    ) -> None:
        self.scope, self.deduplicate, self.bin = scope, deduplicate, bin

    @abstractmethod
    def law(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """For n finite rewards: (n,) the probability of each draw given all of them, and (n,) a(F) up to a factor."""

    def weights(self, rewards: Tensor) -> Tensor:
        """(n,) training weight of each draw, should it be accepted."""
        return torch.ones_like(rewards)

    @abstractmethod
    def __str__(self) -> str:
        """The rule in a few words."""

    def describe(self) -> str:
        """The rule, its scope and de-duplication in a few words."""
        first = "de-duplicated, then " if self.deduplicate else ""
        return f"{first}{self} {'within each condition' if self.scope == 'condition' else 'of the whole round'}"

    def __call__(
        self,
        rewards: Tensor,
        groups: "Tensor | None" = None,
        keys: "Sequence[str] | None" = None,
        generator: "Generator | None" = None,
        left: "Tensor | None" = None,
        spare: "Tensor | None" = None,
    ) -> Accepted:
        """Accept some of n draws.

        Args:
            rewards: (n,) larger is better; NaN where the reward failed: such a draw is never accepted.
            groups: (n,) integer of the condition each was drawn under; neighbouring integers are like conditions.
            keys: Canonical key of each, for de-duplication; an empty key equals no other.
            generator: For which of equals are kept.
            left: (n,) bool, what filters left: nothing else is accepted (see `graft.filters`).
            spare: (n,) bool, what one of the same key that is left stands for, by chance.

        Raises:
            GraftError: There are too few draws for the rule, or nothing is accepted.
        """
        rewards = rewards.to("cpu", torch.float64)
        n = len(rewards)
        probability, relative, weight = (torch.zeros(n, dtype=torch.float64) for _ in range(3))
        usable = ~rewards.isnan()
        if not bool(usable.any()):
            raise GraftError(f"the reward failed for all {n} draws, so that nothing can be accepted: mend the reward")
        if left is not None:
            usable &= left
        equals = torch.zeros(n, dtype=torch.bool) if spare is None else spare.clone()
        if self.deduplicate:
            if keys is None:
                raise GraftError("de-duplication needs the draws' keys: the domain gives none")
            keep = first_of_each(keys, usable, generator)
            equals |= usable & ~keep
            usable &= keep
        bins = self._bins(groups if self.scope == "condition" else None, usable)
        chosen = []
        for members in bins:
            p, a = self.law(rewards[members])
            probability[members], relative[members] = p, a
            weight[members] = self.weights(rewards[members])
            chosen.append(members[systematic(p, generator)])
        index = torch.cat(chosen).sort().values
        if len(index) == 0:
            raise GraftError(
                f"the rule '{self.describe()}' accepted none of {n} draws (best reward "
                f"{float(rewards[~rewards.isnan()].max()):.4g}): draw more, or take a milder rule"
            )
        weight = weight[index] / weight[index].mean()
        if not bool(weight.isfinite().all()):
            raise GraftError(f"the weights of the rule '{self}' overflow: take a milder rule, or rescale the reward")
        if bool(equals.any()):
            relative = spread(relative, keys or [], usable | equals, equals)
        effective = float(weight.sum() ** 2 / weight.square().sum())
        return Accepted(index, weight, probability, kl(relative), effective, bins)

    def _bins(self, groups: "Tensor | None", usable: Tensor) -> list[Tensor]:
        """Positions of the usable draws by condition, each with few draws joined with the next ones up.

        What was drawn decides that, so that a failure or a duplicate does not have two conditions ranked together.
        """
        bins = [torch.arange(len(usable))]
        if groups is not None:
            groups = groups.to("cpu")
            values, drawn = torch.unique(groups, return_counts=True)
            # equally many draws of every condition were asked for (prompts with M images each): none is too small
            equal = len(drawn) > 1 and int(drawn.min()) == int(drawn.max()) > 1
            need = self.smallest if equal else max(self.bin, self.smallest)
            bins = []
            for value in values:
                members = (groups == value).nonzero()[:, 0]
                if bins and len(bins[-1]) < need:
                    bins[-1] = torch.cat([bins[-1], members])
                else:
                    bins.append(members)
            if len(bins) > 1 and len(bins[-1]) < need:
                bins[-2:] = [torch.cat(bins[-2:])]
        if len(bins[-1]) < self.smallest:
            raise GraftError(
                f"the rule '{self}' ranks {self.smallest} draws and there are {len(bins[-1])}: draw more, or take "
                "smaller groups"
            )
        return [members[usable[members]] for members in bins if bool(usable[members].any())]
