"""What an acceptance rule is: within which draws it ranks, what it is applied to, and what comes out."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Generator, Tensor

from graft.accept.deduplicate import keep_one_per_key, shares
from graft.accept.selection import systematic_sample
from graft.errors import GraftError
from graft.recorded_arguments import Described


@dataclass
class Selection:
    """What a rule says of n draws.

    Attributes:
        index: (A,) positions of the accepted draws, ascending.
        weight: (A,) how much each counts in training, 1 on average.
        probability: (n,) of being accepted, given everyone's rewards.
        kl_nats: KL(accepted distribution ‖ distribution of the draws) in nats, jointly of a draw and its condition; see
            `graft.accept`.
        effective_sample_size: Effective number of accepted samples, (Σ w)² / Σ w².
        bins: Positions of the draws that were ranked together, for each condition.
    """

    index: Tensor
    weight: Tensor
    probability: Tensor
    kl_nats: float
    effective_sample_size: float
    bins: list[Tensor] = field(default_factory=list)


class AcceptanceRule(Described, ABC):
    """A rule A non-decreasing in the reward, applied within each condition or to the whole round.

    Args:
        group_by: ``condition``: ranks within a condition, so that what is given is not what is selected; ``global``.
        deduplicate: Keep one draw (at random) of those with the same key before the rule is applied.
        min_group_size: Conditions with fewer draws than this are put together with their neighbours.
    """

    min_draws: int = 1  # draws of a condition that the rule needs
    is_selective: bool = True  # by reward, so that what is accepted has a law of its own

    def __init__(
        self,
        group_by: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        min_group_size: int = 32,
    ) -> None:
        self.group_by, self.deduplicate, self.min_group_size = group_by, deduplicate, min_group_size

    @abstractmethod
    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """For n finite rewards: (n,) the probability of each draw given all of them, and (n,) that times its weight."""

    def information(self, rewards: Tensor, drawn: int, usable: float) -> float:
        """Estimate n E[a log a] for a group of n draws, with a(x) = E[accepted, times its weight | the draw is x].

        Here each draw is accepted by its own reward, so that a is known. A rule that compares draws overrides this.

        Args:
            rewards: (n,) finite rewards of the group.
            drawn: Draws of the group, those with no usable reward included.
            usable: Share of all scored draws that have a usable reward.
        """
        a = self.acceptance(rewards)[1]
        return float(torch.special.xlogy(a, a).sum())

    def weights(self, rewards: Tensor) -> Tensor:
        """(n,) training weight of each draw, should it be accepted."""
        return torch.ones_like(rewards)

    @abstractmethod
    def __str__(self) -> str:
        """The rule in a few words."""

    def describe(self) -> str:
        """The rule, its scope and de-duplication in a few words."""
        first = "de-duplicated, then " if self.deduplicate else ""
        return f"{first}{self} {'within each condition' if self.group_by == 'condition' else 'of the whole round'}"

    def __call__(
        self,
        rewards: Tensor,
        groups: "Tensor | None" = None,
        keys: "Sequence[str] | None" = None,
        generator: "Generator | None" = None,
        eligible: "Tensor | None" = None,
        interchangeable: "Tensor | None" = None,
        scored: "Tensor | None" = None,
        screen: "Tensor | None" = None,
    ) -> Selection:
        """Accept some of n draws.

        Args:
            rewards: (n,) larger is better; NaN where the reward failed: such a draw is never accepted.
            groups: (n,) integer of the condition each was drawn under; neighbouring integers are like conditions.
            keys: Canonical key of each, for de-duplication; an empty key equals no other.
            generator: For which of equals are kept.
            eligible: (n,) bool, what filters left: nothing else is accepted (see `graft.filters`).
            interchangeable: (n,) bool, what one of the same key that is left stands for, by chance.
            scored: (n,) bool, draws that the reward was asked for; the others take no part. All if not given.
            screen: (n,) log a of what chose the scored draws (see `graft.rounds.asked.screen_information`): the others
                then count as rejected. Not given where they are a random part.

        Raises:
            GraftError: There are too few draws for the rule, or nothing is accepted.
        """
        rewards = rewards.to("cpu", torch.float64)
        n = len(rewards)
        probability, a, weight = (torch.zeros(n, dtype=torch.float64) for _ in range(3))
        scored = torch.ones(n, dtype=torch.bool) if scored is None else scored
        usable = scored & ~rewards.isnan()
        if not bool(usable.any()):
            raise GraftError(
                f"the reward failed for all {int(scored.sum())} draws, so that nothing can be accepted: mend the reward"
            )
        if eligible is not None:
            usable &= eligible
        equals = torch.zeros(n, dtype=torch.bool) if interchangeable is None else interchangeable.clone()
        if self.deduplicate:
            if keys is None:
                raise GraftError("de-duplication needs the draws' keys: the domain gives none")
            keep = keep_one_per_key(keys, usable, generator)
            equals |= usable & ~keep
            usable &= keep
        counted = scored & ~equals  # draws that could have been usable, whatever was kept of equals
        share = float(usable.sum() / counted.sum())
        chosen, ranked, information = [], list[Tensor](), 0.0
        for everyone in self._groups(groups if self.group_by == "condition" else None, scored):
            members = everyone[usable[everyone]]
            if not len(members):
                continue
            probability[members], a[members] = self.acceptance(rewards[members])
            information += self.information(rewards[members], int(counted[everyone].sum()), share)
            weight[members] = self.weights(rewards[members])
            ranked.append(members)
            chosen.append(members[systematic_sample(probability[members], generator)])
        index = torch.cat(chosen).sort().values
        if len(index) == 0:
            raise GraftError(
                f"the rule '{self.describe()}' accepted none of {int(scored.sum())} draws (best reward "
                f"{float(rewards[~rewards.isnan()].max()):.4g}): draw more, or take a milder rule"
            )
        weight = weight[index] / weight[index].mean()
        if not bool(weight.isfinite().all()):
            raise GraftError(f"the weights of the rule '{self}' overflow: take a milder rule, or rescale the reward")
        before = torch.zeros(n, dtype=torch.float64) if screen is None else screen
        if bool(equals.any()):
            before = before + shares(keys or [], usable, equals)
        kl = (information + float((a * before).sum())) / float(a.sum())
        kl -= math.log(float(a.sum()) / (n if screen is not None else int(scored.sum())))
        effective = float(weight.sum() ** 2 / weight.square().sum())
        return Selection(index, weight, probability, max(0.0, kl), effective, ranked)  # an estimate can fall below 0

    def _bins(self, groups: "Tensor | None", usable: Tensor) -> list[Tensor]:
        """Positions of the usable draws of each group, where there are any."""
        found = self._groups(groups, torch.ones_like(usable))
        return [members[usable[members]] for members in found if bool(usable[members].any())]

    def _groups(self, groups: "Tensor | None", scored: Tensor) -> list[Tensor]:
        """Positions of the scored draws by condition, each with few draws joined with the next ones up.

        What was scored decides that, so that a failure or a duplicate does not have two conditions ranked together.
        """
        bins = [torch.arange(len(scored))]
        sizes = [int(scored.sum())]
        if groups is not None:
            groups = groups.to("cpu")
            values, drawn = torch.unique(groups, return_counts=True)
            # equally many draws of every condition were asked for (prompts with M images each): none is too small
            equal = len(drawn) > 1 and int(drawn.min()) == int(drawn.max()) > 1
            need = self.min_draws if equal else max(self.min_group_size, self.min_draws)
            bins, sizes = [], []
            for value in values:
                members = (groups == value).nonzero()[:, 0]
                size = len(members) if equal else int(scored[members].sum())
                if bins and sizes[-1] < need:
                    bins[-1], sizes[-1] = torch.cat([bins[-1], members]), sizes[-1] + size
                else:
                    bins.append(members)
                    sizes.append(size)
            if len(bins) > 1 and sizes[-1] < need:
                bins[-2:], sizes[-2:] = [torch.cat(bins[-2:])], [sum(sizes[-2:])]
        if sizes[-1] < self.min_draws:
            raise GraftError(
                f"the rule '{self}' ranks {self.min_draws} draws and there are {sizes[-1]}: draw more, or take "
                "smaller groups"
            )
        return [members[scored[members]] for members in bins]
