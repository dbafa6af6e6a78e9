"""Scores of a round's draws: which of them the reward is asked for, and what it says, kept chunk by chunk."""

import itertools
import math
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor

from graft.identity import digest
from graft.module import GraftModule
from graft.reward import Reward, Scores
from graft.rounds import Round


def score(module: GraftModule, reward: Reward, store: Round, asked: Tensor, chunks: Iterable[int], keyed: bool) -> None:
    """Have the reward's scores and the objects' keys on disk; what is there is not asked again.

    Args:
        module: Decodes the draws.
        reward: Asked, and closed at the end.
        store: The round, with its draws.
        asked: (draws,) bool, which draws the reward is asked for.
        chunks: This process's.
        keyed: The domain's objects have keys.
    """
    starts = [0, *itertools.accumulate(store.rows)]
    try:
        for index in chunks:
            if store.has_scores(index):
                continue
            chunk = store.read_chunk(index)
            items = module.decode(chunk.state, chunk.condition)
            keys = [module.key(item) for item in items] if keyed else [""] * len(items)
            chosen = asked[starts[index] : starts[index + 1]].nonzero()[:, 0].tolist()
            some = reward([items[i] for i in chosen])
            scores = Scores([math.nan] * len(items), {chosen[i]: why for i, why in some.failures.items()})
            for i, value in zip(chosen, some.values, strict=True):
                scores.values[i] = value
            store.write_scores(index, scores, keys)
    finally:
        reward.close()


def passed(
    module: GraftModule, screen: Reward, store: Round, most: int, chunks: Iterable[int], barrier: Callable[[], None]
) -> Tensor:
    """(draws,) bool: the ``most`` draws that a cheap reward ranks highest within their condition; see `screened`.

    Args:
        module: Decodes the draws.
        screen: The cheap reward, closed at the end.
        store: The round, with its draws.
        most: Draws to choose.
        chunks: This process's.
        barrier: Waits for the other processes.
    """
    by = digest(screen)

    def ask(index: int) -> list[float]:
        chunk = store.read_chunk(index)
        return screen(module.decode(chunk.state, chunk.condition)).values

    try:
        for index in chunks:
            store.screened(index, by, partial(ask, index))
        barrier()
        everything = range(len(store.rows))
        values = [value for index in everything for value in store.screened(index, by, partial(ask, index))]
    finally:
        screen.close()
    groups = torch.cat([module.group(store.read_chunk(index).condition) for index in everything])
    rewards = torch.tensor(values, dtype=torch.float64)
    return screened(rewards if screen.maximise else -rewards, groups, most)


def screened(values: Tensor, groups: Tensor, most: int) -> Tensor:
    """(n,) bool: the ``most`` draws that rank highest within their condition; NaN ranks nowhere.

    Args:
        values: (n,) larger is better.
        groups: (n,) integer of each draw's condition.
        most: Draws to choose.
    """
    rank = torch.full_like(values, math.inf)
    for group in torch.unique(groups):
        inside = ((groups == group) & ~values.isnan()).nonzero()[:, 0]
        order = inside[values[inside].argsort(descending=True, stable=True)]
        rank[order] = (torch.arange(len(order), dtype=rank.dtype) + 0.5) / int((groups == group).sum())
    chosen = torch.zeros(len(values), dtype=torch.bool)
    chosen[rank.argsort(stable=True)[:most]] = True
    return chosen & rank.isfinite()
