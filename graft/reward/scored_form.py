"""Objects in the form in which a reward scored them, such as docked poses."""

from collections.abc import Sequence
from typing import Any

from graft.core.copies import copied
from graft.reward.base import Reward, ScoredForm
from graft.reward.calls import leaves
from graft.reward.isolation import isolated

PartForms = tuple[Reward, list["ScoredForm | None"]]
"""A part of a reward, and the form in which it scored each object, or None."""


def scored_forms(reward: Reward, items: Sequence[Any]) -> list[PartForms]:
    """Return (part, scored form of each object) for the parts of a reward with such forms.

    A form is None if the reward has none of the object, or cannot compute it. A part without a form of any object is
    left out.

    Args:
        reward: Reward of the objects; its `leaves` are its parts.
        items: Objects.
    """
    found = [
        (leaf, [_scored_form(leaf, item) for item in items])
        for leaf in leaves(reward)
        if type(leaf).scored_form is not Reward.scored_form
    ]
    return [(leaf, forms) for leaf, forms in found if any(form is not None for form in forms)]


def _scored_form(reward: Reward, item: Any) -> "ScoredForm | None":
    try:
        with isolated():
            return reward.scored_form(copied(item))
    except (Exception, SystemExit):  # a form is for display: an error must not end a run that is over
        return None
