"""Apply filters to a round, with its draws and all earlier accepted draws read from disk."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from graft.domain import Domain
from graft.errors import GraftError
from graft.filters.base import AcceptedHistory, Candidates, Filter, apply_filters
from graft.rounds.round_store import ACCEPTED, RoundStore


def check_requirements(filters: Sequence[Filter], domain: Domain) -> None:
    """Raise GraftError if a filter needs a hook that the domain does not implement."""
    needs = _needs(filters)
    if "keys" in needs and not domain.supports("key"):
        raise GraftError(f"{type(domain).__name__} has no key for its objects, which data.filters needs: implement key")
    name = type(domain).__name__
    if "known" in needs and not domain.supports("in_training_set"):
        raise GraftError(f"{name} does not know its training data, which novelty needs: implement in_training_set")
    if "features" in needs and not domain.supports("features"):
        raise GraftError(f"{name} has no features for its objects, which similarity needs: implement features")


def filter_round(
    filters: Sequence[Filter],
    domain: Domain,
    store: RoundStore,
    earlier: "Sequence[tuple[RoundStore, Tensor]]",
    rewards: Tensor,
    groups: Tensor,
    keys: list[str],
    generator: Generator,
) -> Candidates:
    """Return the draws of a round that the filters leave.

    Args:
        filters: Filters, applied one after the other.
        domain: Domain of the objects.
        store: Store of the round.
        earlier: Store of each earlier round, and (A,) positions of its accepted draws.
        rewards: (n,) rewards, larger is better; NaN for a draw without a reward.
        groups: (n,) integer of the condition of each draw.
        keys: Key of each draw.
        generator: Source of the choice among equal draws.
    """
    needs, past = _needs(filters), []
    known = domain.in_training_set(keys) if "known" in needs else None
    features = None
    if "features" in needs:
        read = (store.read_chunk(index) for index in range(len(store.chunk_sizes)))
        features = torch.cat([domain.features(domain.decode(chunk.state, chunk.condition)) for chunk in read])
    for before, index in earlier:
        named = before.scores()[1]
        chunk = before.read_subset(ACCEPTED)
        theirs = domain.features(domain.decode(chunk.state, chunk.condition)) if features is not None else None
        past.append(AcceptedHistory([named[i] for i in index.tolist()], domain.group(chunk.condition), theirs))
    return apply_filters(filters, Candidates(rewards, keys, groups, features, known), past, generator)


def _needs(filters: Sequence[Filter]) -> frozenset[str]:
    return frozenset().union(*(each.requires for each in filters))
