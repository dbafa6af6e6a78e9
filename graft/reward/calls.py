"""Calls of a reward on many objects, and their numbers by name.

A failure costs its object alone, never the run.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.core.copies import copies
from graft.errors import GraftError
from graft.reward.base import Reward
from graft.reward.isolation import isolated
from graft.reward.scores import Scores, concatenate_scores, format_error, to_finite_float

if TYPE_CHECKING:
    from graft.domain import Domain


def score_objects(reward: Reward, items: Sequence[Any]) -> Scores:
    """Score copies of the objects and count the calls.

    The objects and this process stay as they were, whatever the reward does. Every value of the result is finite or has
    a failure. If a reward of many objects raises, they are scored one by one.

    Raises:
        GraftError: The reward returned no `Scores` with a value for each object.
    """
    if not items:
        return Scores([], calls={})
    try:
        with isolated():
            scores = reward(items if reward.copies_items else copies(items))
    except GraftError:
        raise
    except (Exception, SystemExit) as error:
        if len(items) == 1:
            return Scores([math.nan], {0: format_error(error)}, calls={reward.name: 1})
        return concatenate_scores([score_objects(reward, [item]) for item in items])
    if not isinstance(scores, Scores) or len(scores.values) != len(items):
        found = f"{len(scores.values)} values" if isinstance(scores, Scores) else type(scores).__name__
        raise GraftError(
            f"the reward {reward.name} returned {found} for {len(items)} objects; it must return a graft.reward.Scores "
            "with one value for each. Correct its __call__."
        )
    for i, value in enumerate(scores.values):
        if i in scores.failures:
            scores.values[i] = math.nan
            continue
        try:
            scores.values[i] = to_finite_float(value)
        except ValueError as error:
            scores.values[i], scores.failures[i] = math.nan, str(error)
    if scores.calls is None:
        scores.calls = {reward.name: scores.reward_calls}
    return scores


def score_batches(
    reward: Reward,
    items: Sequence[Any],
    batches: Iterable[Sequence[int]],
    values: Callable[[list[Any]], Sequence[Any]],
) -> Scores:
    """Score objects batch by batch.

    A batch that raises is scored again object by object with `Reward.score`, so that only the object with the fault
    fails.

    Args:
        reward: Reward of the objects; its `score` scores one.
        items: Objects.
        batches: Positions of the objects of each batch.
        values: Function from the objects of a batch to their scores.

    Raises:
        GraftError: Scoring raises one.
    """
    scores = Scores([math.nan] * len(items))
    for rows in batches:
        part = [items[i] for i in rows]
        try:
            found = [to_finite_float(value) for value in values(part)]
        except GraftError:
            raise
        except Exception:  # a reward may raise any type
            alone = Reward.__call__(reward, part)
            found = alone.values
            scores.failures |= {rows[j]: why for j, why in alone.failures.items()}
        for i, value in zip(rows, found, strict=True):
            scores.values[i] = value
    return scores


def leaves(reward: Reward) -> list[Reward]:
    """Return the rewards with counted calls: the reward itself, or the leaves of its parts."""
    return [leaf for part in reward.parts for leaf in leaves(part)] if reward.parts else [reward]


def bind(reward: "Reward | None", domain: "Domain", folder: "Path | None" = None) -> None:
    """Give the domain of the objects, and the folder of the run if there is one, to all leaves of a reward."""
    for leaf in leaves(reward) if reward is not None else ():
        leaf.bind(domain, folder)


def by_term(reward: "Reward | None", parts: "Iterable[Mapping[str, int]]") -> dict[str, int]:
    """Return sums of numbers of calls by name; 0 for a reward that was never called."""
    total = Counter(dict.fromkeys((leaf.name for leaf in leaves(reward)) if reward is not None else (), 0))
    for part in parts:
        total.update(part)
    return dict(total)
