"""Filters on rounds: what they are told of the draws, and of what earlier rounds accepted, comes from disk."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from graft.errors import GraftError
from graft.filters.base import AcceptedHistory, Candidates, Filter, apply_filters
from graft.rounds import ACCEPTED, RoundStore

if TYPE_CHECKING:
    from graft.module import GraftModule


def check_requirements(filters: Sequence[Filter], module: "GraftModule") -> None:
    """Refuse filters that the domain has not what for.

    Raises:
        GraftError: It has no keys, no known keys or no features, and a filter needs them.
    """
    needs = _needs(filters)
    if "keys" in needs and not module.has_keys:
        raise GraftError(f"{type(module).__name__} has no key for its objects: data.filters need one")
    name = type(module).__name__
    if "known" in needs and not module.knowing:
        raise GraftError(f"{name} does not know its training data: novelty needs that")
    if "features" in needs and not module.has_features:
        raise GraftError(f"{name} has no features for its objects: similarity and distances need them")


def filter_round(
    filters: Sequence[Filter],
    module: "GraftModule",
    store: RoundStore,
    earlier: "Sequence[tuple[RoundStore, Tensor]]",
    rewards: Tensor,
    groups: Tensor,
    keys: list[str],
    generator: Generator,
) -> Candidates:
    """What the filters leave of a round's draws; see `screen`.

    Args:
        filters: Applied one after the other.
        module: The domain.
        store: The round.
        earlier: Each earlier round, and the positions (A,) of what it accepted.
        rewards: (n,) larger is better; NaN where there is none.
        groups: (n,) integer of the condition of each draw.
        keys: Of each draw.
        generator: For which of equals are left.
    """
    needs, past = _needs(filters), []
    known = module.in_training_set(keys) if "known" in needs else None
    features = None
    if "features" in needs:
        read = (store.read_chunk(index) for index in range(len(store.rows)))
        features = torch.cat([module.features(module.decode(chunk.state, chunk.condition)) for chunk in read])
    for before, index in earlier:
        named = before.scores()[1]
        chunk = before.read_subset(ACCEPTED)
        theirs = module.features(module.decode(chunk.state, chunk.condition)) if features is not None else None
        past.append(AcceptedHistory([named[i] for i in index.tolist()], module.group(chunk.condition), theirs))
    return apply_filters(filters, Candidates(rewards, keys, groups, features, known), past, generator)


def _needs(filters: Sequence[Filter]) -> frozenset[str]:
    return frozenset().union(*(each.requires for each in filters))
