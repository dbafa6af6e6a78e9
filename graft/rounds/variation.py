"""Whether a reward tells a round's draws apart: where it does not, any rule accepts arbitrary draws."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.errors import GraftError

ROUNDING = 1e-12
"""Relative difference up to which rewards are equal."""


@dataclass(frozen=True)
class Variation:
    """How the rewards of a round vary.

    Attributes:
        candidates: Number of draws that the rule chooses from.
        conditions: Number of conditions, as the rule ranks them, that have at least two candidates.
        constant: Number of these conditions in which all candidates have the same reward.
        value: The reward, where all candidates have the same; else None.
        mean: Mean reward of the candidates.
        selectable: The reward varies: over all candidates, and within conditions that hold more than half of them.
    """

    candidates: int
    conditions: int
    constant: int
    value: "float | None"
    mean: float
    selectable: bool


def variation(rewards: Tensor, bins: Sequence[Tensor]) -> Variation:
    """Return how rewards vary.

    Args:
        rewards: (n,) rewards.
        bins: Positions of the candidates of each condition; see `graft.accept.Selection`.
    """
    everyone = rewards[torch.cat([*bins])] if bins else rewards[:0]
    informative = [rewards[members] for members in bins if len(members) > 1]
    constant = [values for values in informative if _alike(values)]
    same = len(everyone) > 1 and _alike(everyone)
    most = 2 * sum(len(values) for values in informative) >= len(everyone)
    within = bool(informative) and len(constant) == len(informative) and most
    return Variation(
        candidates=len(everyone),
        conditions=len(informative),
        constant=len(constant),
        value=float(everyone[0]) if same else None,
        mean=float(everyone.mean()) if len(everyone) else float("nan"),
        selectable=not (same or within),
    )


def sentence(found: Variation, name: str, number: int) -> str:
    """Return in words that a reward does not vary.

    Args:
        found: How it varies.
        name: Name of the reward.
        number: Round, counted from 0.
    """
    if found.value is not None:
        return f"the reward {name} is {found.value:.6g} for all {found.candidates} candidates of round {number + 1}"
    return f"the reward {name} does not vary within any of {found.conditions} conditions of round {number + 1}"


def refuse(found: Variation, name: str, number: int, action: str = "check the reward") -> None:
    """Raise because nothing can be selected.

    Args:
        found: How the reward varies.
        name: Name of the reward.
        number: Round, counted from 0.
        action: Advice to the user.

    Raises:
        GraftError: Always.
    """
    if found.value is None:
        action += ", rank all draws together with data.accept.group_by=global"
    raise GraftError(
        f"{sentence(found, name, number)}, so that training would learn from arbitrary draws: {action}, or go on all "
        "the same with data.allow_constant_reward=true"
    )


def _alike(values: Tensor) -> bool:
    low, high = float(values.min()), float(values.max())
    return high - low <= ROUNDING * max(abs(low), abs(high))
