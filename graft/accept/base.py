"""The interface of an acceptance rule, its groups of draws, and its selection."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Generator, Tensor

from graft.accept.deduplicate import keep_one_per_key, shares
from graft.accept.selection import systematic_sample
from graft.core.recorded_arguments import Described
from graft.errors import GraftError


@dataclass
class Selection:
    """The accepted ones of n draws.

    Attributes:
        index: Positions of the accepted draws, (A,), ascending.
        weight: Training weight of each accepted draw, (A,), 1 on average.
        probability: Probability of acceptance of each draw given all rewards, (n,).
        kl_nats: KL(accepted distribution ‖ distribution of the draws) in nats, jointly of a draw and its condition;
            `graft.accept` has the definition.
        effective_sample_size: Effective number of accepted samples, (Σ w)² / Σ w².
        bins: Positions of the draws that were ranked together, for each group.
    """

    index: Tensor
    weight: Tensor
    probability: Tensor
    kl_nats: float
    effective_sample_size: float
    bins: list[Tensor] = field(default_factory=list)


class AcceptanceRule(Described, ABC):
    """A rule that does not decrease in the reward, within each condition or the whole round.

    Args:
        group_by: ``condition`` ranks the draws of a condition, so that the rule does not select conditions; ``global``
            ranks the whole round.
        deduplicate: Keep one random draw of each key before the rule is applied.
        min_group_size: Number of draws below which a condition is joined with the next ones.
    """

    min_draws: int = 1
    """Number of draws of a group that the rule needs."""

    is_selective: bool = True
    """True if the rule selects by reward, so that accepted draws have another distribution."""

    def __init__(
        self,
        group_by: Literal["condition", "global"] = "condition",
        deduplicate: bool = False,
        min_group_size: int = 32,
    ) -> None:
        self.group_by, self.deduplicate, self.min_group_size = group_by, deduplicate, min_group_size

    @abstractmethod
    def acceptance(self, rewards: Tensor) -> tuple[Tensor, Tensor]:
        """Return (n,) acceptance probabilities and (n,) probability times weight, of n rewards.

        The rewards are finite, and a probability is given all of them.
        """

    def information(self, rewards: Tensor, drawn: int, usable: float) -> float:
        """Return an estimate of n E[a log a] for a group of n draws.

        a(x) is the mean of accepted times weight, given that the draw is x. Here the reward of a draw alone decides, so
        a is known. A rule that compares draws overrides this.

        Args:
            rewards: Finite rewards of the group, (n,).
            drawn: Number of draws of the group, with those without a usable reward.
            usable: Share of all scored draws with a usable reward.
        """
        a = self.acceptance(rewards)[1]
        return float(torch.special.xlogy(a, a).sum())

    def weights(self, rewards: Tensor) -> Tensor:
        """Return the (n,) training weight of each draw if it is accepted."""
        return torch.ones_like(rewards)

    @abstractmethod
    def __str__(self) -> str:
        """Return the rule in a few words."""

    def describe(self) -> str:
        """Return the rule, its groups and de-duplication in a few words."""
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
        proxy_log_acceptance: "Tensor | None" = None,
    ) -> Selection:
        """Return the selection of n draws.

        Args:
            rewards: Rewards, (n,), higher is better; NaN for a failed reward, with which a draw is never accepted.
            groups: Integer of each draw's condition, (n,); neighbouring integers are similar conditions.
            keys: Canonical key of each draw, for de-duplication; an empty key equals no other key.
            generator: Generator of the choice between duplicates and of the selection.
            eligible: True for draws that passed the filters, (n,) bool; no other draw is accepted (`graft.filters`).
            interchangeable: True for draws that filters rejected by chance for an eligible draw of their key, (n,)
                bool.
            scored: True for draws that the reward was computed for, (n,) bool; the others take no part. All if not
                given.
            proxy_log_acceptance: (n,) log a of the choice of the scored draws by a proxy reward; the others then count
                as rejected. Not given where the scored draws are a random part.

        Raises:
            GraftError: There are too few draws for the rule, or no draw is accepted.
        """
        rewards = rewards.to("cpu", torch.float64)
        n = len(rewards)
        probability, a, weight = (torch.zeros(n, dtype=torch.float64) for _ in range(3))
        scored = torch.ones(n, dtype=torch.bool) if scored is None else scored
        usable = scored & ~rewards.isnan()
        if not bool(usable.any()):
            raise GraftError(
                f"the reward failed for all {int(scored.sum())} draws, so no draw can be accepted: correct the reward"
            )
        if eligible is not None:
            usable &= eligible
            if not bool(usable.any()):
                raise GraftError(
                    f"none of {int(scored.sum())} draws passed the filters with a reward, so no draw can be accepted: "
                    "draw more, or take a milder filter"
                )
        equals = torch.zeros(n, dtype=torch.bool) if interchangeable is None else interchangeable.clone()
        if self.deduplicate:
            if keys is None:
                raise GraftError("de-duplication needs the draws' keys: implement `key` in the domain")
            keep = keep_one_per_key(keys, usable, generator)
            equals |= usable & ~keep
            usable &= keep
        counted = scored & ~equals  # usable or not, but for duplicates of a kept draw
        share = float(usable.sum() / counted.sum())
        chosen, ranked, information = [], list[Tensor](), 0.0
        for group in self._groups(groups if self.group_by == "condition" else None, scored):
            members = group[usable[group]]
            if not len(members):
                continue
            probability[members], a[members] = self.acceptance(rewards[members])
            information += self.information(rewards[members], int(counted[group].sum()), share)
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
        before = torch.zeros(n, dtype=torch.float64) if proxy_log_acceptance is None else proxy_log_acceptance
        if bool(equals.any()):
            before = before + shares(keys or [], usable, equals)
        kl = (information + float((a * before).sum())) / float(a.sum())
        kl -= math.log(float(a.sum()) / (n if proxy_log_acceptance is not None else int(scored.sum())))
        effective = float(weight.sum() ** 2 / weight.square().sum())
        # an estimate of the KL can be negative
        return Selection(index, weight, probability, max(kl, 0.0), effective, ranked)

    def _groups(self, groups: "Tensor | None", scored: Tensor) -> list[Tensor]:
        """Return the positions of the scored draws by condition; small conditions are joined.

        The number of scored draws decides, so a failure or a duplicate does not join two conditions.
        """
        bins = [torch.arange(len(scored))]
        sizes = [int(scored.sum())]
        if groups is not None:
            groups = groups.to("cpu")
            values, drawn = torch.unique(groups, return_counts=True)
            # conditions with one number of draws each (prompts with M images) are never too small
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
