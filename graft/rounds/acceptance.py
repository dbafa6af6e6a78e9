"""Accept samples of a round: apply the filters and the rule; check that rewards vary."""

from dataclasses import dataclass

import torch
from torch import Tensor

from graft.accept import Selection
from graft.core import distributed, seeding
from graft.domain import Domain
from graft.filters import Candidates
from graft.reward import Scores, oriented
from graft.rounds import variation
from graft.rounds.budget_selection import proxy_information
from graft.rounds.filtering import filter_round
from graft.rounds.round_store import RoundStore
from graft.rounds.scoring import proxy_values, store_groups
from graft.rounds.settings import RoundSettings
from graft.rounds.summary import RoundSummary
from graft.rounds.variation import Variation


@dataclass
class AcceptedRound:
    """The outcome of the acceptance of a round.

    Attributes:
        selection: The accepted samples.
        candidates: The samples that the filters left.
        rewards: (n,) rewards of all samples, NaN for a sample without a reward.
        groups: (n,) integer of each sample's condition.
        keys: Key of each object.
        scored: (n,) bool, True for a sample that the reward was called for.
        proxy: True if a proxy reward decided which samples were scored.
    """

    selection: Selection
    candidates: Candidates
    rewards: Tensor
    groups: Tensor
    keys: list[str]
    scored: Tensor
    proxy: bool


def accept_round(
    domain: Domain, store: RoundStore, scores: Scores, keys: list[str], settings: RoundSettings, number: int
) -> AcceptedRound:
    """Return the accepted samples of a round, after the filters and the rule.

    Args:
        domain: The domain of the objects.
        store: The store of the round.
        scores: The scores of all samples.
        keys: The key of each object.
        settings: The settings of the rounds.
        number: Number of the round.

    Raises:
        GraftError: The filters leave no sample, or the rule cannot be applied.
    """
    rewards = torch.tensor(scores.values, dtype=torch.float64)
    groups = store_groups(domain, store)
    signed = oriented(rewards, settings.accept_higher_is_better)
    earlier = [
        (settings.store(n), RoundSummary.read(settings.round_dir(n))[1])
        for n in range(number if settings.filters else 0)
    ]
    generator = seeding.make_generator(settings.seed, "filter", number)
    candidates = filter_round(settings.filters, domain, store, earlier, signed, groups, keys, generator)
    scored = ~rewards.isnan()
    scored[list(scores.failures)] = True
    proxy_log_acceptance = None
    if settings.proxy_reward is not None and settings.source.is_model:
        proxy_log_acceptance = proxy_information(proxy_values(domain, settings.proxy_reward, store), groups, scored)
    generator = seeding.make_generator(settings.seed, "accept", number)
    selection = settings.accept(
        signed, groups, keys, generator, candidates.eligible, candidates.interchangeable, scored, proxy_log_acceptance
    )
    return AcceptedRound(selection, candidates, rewards, groups, keys, scored, proxy_log_acceptance is not None)


def check_variation(
    accepted: AcceptedRound, settings: RoundSettings, number: int, former: "RoundSummary | None", uses_rewards: bool
) -> tuple[Variation, bool]:
    """Return the variation of the ranked rewards, and True if nothing is left to select.

    Args:
        accepted: The outcome of the acceptance.
        settings: The settings of the rounds.
        number: Number of the round.
        former: The summary of the previous round; None in the first round.
        uses_rewards: True if the objective learns from the rewards themselves.

    Raises:
        GraftError: The rewards do not vary, and ``data.budget.allow_constant`` is false.
    """
    rule, selection = settings.accept, accepted.selection
    found = variation.variation(accepted.rewards, selection.bins)
    if not (rule.is_selective or uses_rewards):
        return found, False
    name, sign = settings.accept_name, oriented(1, settings.accept_higher_is_better)
    sentence = variation.describe_variation(found, name, number)
    if found.selectable:
        if found.constant:
            where = f"{found.constant} of {found.conditions} conditions of round {number + 1}"
            distributed.rank_zero_print(f"the reward {name} does not vary within {where}, where nothing is selected")
        elif rule.is_selective and round(selection.effective_sample_size, 6) == found.candidates:
            distributed.rank_zero_print(
                f"the rule '{rule}' accepts all candidates of round {number + 1}: nothing is selected"
            )
    elif settings.allow_constant_reward:
        distributed.rank_zero_print(f"{sentence}: the accepted draws are arbitrary")
    elif former is not None and sign * found.mean >= sign * former.accepted_reward:
        distributed.rank_zero_print(
            f"{sentence}, no worse than the accepted draws of round {number}: nothing is left to select, so that "
            f"training ends with the weights of round {number}"
        )
        return found, True
    else:
        variation.refuse(found, name, number)
    return found, False
