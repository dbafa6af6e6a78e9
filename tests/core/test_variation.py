"""Variation of a reward, for any rule and any division into conditions."""

import math
from typing import Any

import pytest
import torch

from graft.accept import AcceptAll, ExponentialTilt, Preference, Threshold, TopFraction, TopK
from graft.rounds.variation import variation

RULES: list[Any] = [
    AcceptAll(),
    Preference(),
    Threshold(0.0),
    ExponentialTilt(1.0),
    ExponentialTilt(1.0, 3.0),
    TopFraction(0.5),
    TopK(1, 4),
]
GROUPS = torch.arange(3).repeat_interleave(64)
LABEL, NOISE = GROUPS.double(), torch.rand(192, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def found(rewards: torch.Tensor, rule: Any, groups: torch.Tensor = GROUPS) -> Any:
    return variation(rewards, rule(rewards, groups, generator=torch.Generator().manual_seed(1)).bins)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("value", [0.0, 1.0, 7.25e-300, 1e99 / 1e99])
def test_one_value(rule: Any, value: float) -> None:
    """Up to rounding, and wherever rewards failed."""
    rewards = torch.full((192,), value, dtype=torch.float64)
    rewards[5::7] = math.nan
    rewards[9] *= 1 + 2e-16
    of = found(rewards, rule)
    assert not of.selectable and of.value == value and of.candidates == int((~rewards.isnan()).sum())
    rewards[17] += 0.01
    assert found(rewards, rule).selectable and found(rewards, rule).value is None


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_one_value_for_each_condition(rule: Any) -> None:
    of = found(LABEL, rule)
    assert (of.selectable, of.value, of.constant, of.conditions, of.mean) == (False, None, 3, 3, 1.0)
    # two conditions of three: the third one is selected from
    of = found(torch.where(GROUPS == 1, NOISE, LABEL), rule)
    assert (of.selectable, of.constant, of.conditions) == (True, 2, 3)


def test_of_the_whole_round() -> None:
    """Ranked globally, what differs between conditions is selected by."""
    of = found(LABEL, TopFraction(0.5, group_by="global"))
    assert of.selectable and (of.constant, of.conditions) == (0, 1)


def test_single_draws_of_a_condition() -> None:
    """Conditions with one draw do not vary: a rule on an absolute scale selects among conditions."""
    groups = torch.arange(192)
    groups[1] = 0
    assert found((NOISE > 0.5).double().index_fill(0, torch.tensor([0, 1]), 1.0), Threshold(0.5), groups).selectable
    assert not found(torch.ones(192, dtype=torch.float64), Threshold(0.5), groups).selectable
    assert found(torch.where(torch.arange(192) == 3, 1.0, math.nan).double(), Threshold(0.5), groups).selectable


def test_small_conditions_are_ranked_together() -> None:
    """Small conditions are one, as the rule ranks them: rewards of prompts with few draws differ between prompts."""
    groups = torch.arange(96).repeat_interleave(2)
    groups[0] = 1  # not equally many
    assert found(groups.double(), TopFraction(0.5), groups).selectable
    equal = torch.arange(96).repeat_interleave(2)
    assert not found(equal.double(), TopFraction(0.5), equal).selectable


def test_energies_with_a_large_offset() -> None:
    """Differences of 1e-8 of a value are differences."""
    assert found(-1e6 + 0.01 * NOISE, TopFraction(0.5)).selectable
