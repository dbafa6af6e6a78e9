"""The variation of the rewards of a round; with constant rewards, acceptance is arbitrary."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.errors import GraftError

ROUNDING = 1e-12
"""Relative difference up to which rewards are equal."""


@dataclass(frozen=True)
class Variation:
    """The variation of the rewards of a round.

    Attributes:
        candidates: Number of draws that the rule selects from.
        conditions: Number of conditions, as the rule ranks them, that have at least two candidates.
        constant: Number of these conditions in which all candidates have the same reward.
        value: The common reward of all candidates; None if the rewards differ.
        mean: Mean reward of the candidates.
        selectable: True if the rewards differ, both overall and within the conditions that hold most candidates.
    """

    candidates: int
    conditions: int
    constant: int
    value: "float | None"
    mean: float
    selectable: bool


def variation(rewards: Tensor, bins: Sequence[Tensor]) -> Variation:
    """Return the variation of rewards.

    Args:
        rewards: (n,) rewards.
        bins: Positions of the candidates of each condition, as in `graft.accept.Selection`.
    """
    all_rewards = rewards[torch.cat([*bins])] if bins else rewards[:0]
    informative = [rewards[members] for members in bins if len(members) > 1]
    constant = [values for values in informative if _alike(values)]
    same = len(all_rewards) > 1 and _alike(all_rewards)
    most = 2 * sum(len(values) for values in informative) >= len(all_rewards)
    within = bool(informative) and len(constant) == len(informative) and most
    return Variation(
        candidates=len(all_rewards),
        conditions=len(informative),
        constant=len(constant),
        value=float(all_rewards[0]) if same else None,
        mean=float(all_rewards.mean()) if len(all_rewards) else float("nan"),
        selectable=not (same or within),
    )


def describe_variation(found: Variation, name: str, number: int) -> str:
    """Return the sentence for a reward that does not vary.

    Args:
        found: Variation of the reward.
        name: Name of the reward.
        number: Number of the round, counted from 0.
    """
    if found.value is not None:
        return f"the reward {name} is {found.value:.6g} for all {found.candidates} candidates of round {number + 1}"
    return f"the reward {name} does not vary within any of {found.conditions} conditions of round {number + 1}"


def refuse(found: Variation, name: str, number: int, action: str = "check the reward") -> None:
    """Raise GraftError for a reward that does not vary.

    Args:
        found: Variation of the reward.
        name: Name of the reward.
        number: Number of the round, counted from 0.
        action: Advice to the user.
    """
    if found.value is None:
        action += ", rank all draws together with data.accept.group_by=global"
    raise GraftError(
        f"{describe_variation(found, name, number)}, so that training would learn from arbitrary draws: {action}, or "
        "continue with data.budget.allow_constant=true"
    )


def _alike(values: Tensor) -> bool:
    low, high = float(values.min()), float(values.max())
    return high - low <= ROUNDING * max(abs(low), abs(high))
