"""Scores of a round's draws: which of them the reward is asked for, and what it says, kept chunk by chunk."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from graft.distributed import rank_zero_print
from graft.errors import GraftError
from graft.fingerprint import fingerprint_hash
from graft.module import GraftModule
from graft.reward import Reward, Scores, ask, bounded
from graft.rounds.asked import screened
from graft.rounds.round_store import RoundStore
from graft.rounds.variation import variation


def score_round(
    module: GraftModule,
    reward: Reward,
    store: RoundStore,
    asked: Tensor,
    chunks: Iterable[int],
    keyed: bool,
    budget: "FailureBudget | None" = None,
) -> None:
    """Have the reward's scores and the objects' keys on disk; what is there is not asked again.

    Args:
        module: Decodes the draws.
        reward: Asked, and closed at the end.
        store: The round, with its draws.
        asked: (draws,) bool, which draws the reward is asked for.
        chunks: This process's.
        keyed: The domain's objects have keys.
        budget: Where this process's failures exceed it, the rest is not asked; `settle` says so.
    """
    starts = [0, *itertools.accumulate(store.rows)]
    failed = answered = 0
    try:
        for index in chunks:
            if not store.has_scores(index):
                _score(module, reward, store, index, asked[starts[index] : starts[index + 1]], keyed)
            failures, count = _counted(store, index)
            failed, answered = failed + failures, answered + count
            total = int(asked.sum())  # others may fare better than this process
            if budget is not None and budget.exceeded(failed, total if budget.distributed else answered, total):
                break
    finally:
        reward.teardown()


def _score(module: GraftModule, reward: Reward, store: RoundStore, index: int, asked: Tensor, keyed: bool) -> None:
    chunk = store.read_chunk(index)
    items = module.decode(chunk.state, chunk.condition)
    keys = [module.key(item) for item in items] if keyed else [""] * len(items)
    chosen, scores, before = store.pending_retries(index), Scores([math.nan] * len(items)), 0
    if chosen is None:
        chosen = asked.nonzero()[:, 0].tolist()
    else:
        scores, before = store.read_scores(index)[0], store.reward_calls(index)
    some = ask(reward, [items[i] for i in chosen])
    scores.failures = {chosen[i]: why for i, why in some.failures.items()}
    scores.calls = Counter(scores.calls or {}) + Counter(some.calls or {})
    for i, value in zip(chosen, some.values, strict=True):
        scores.values[i] = value
    store.write_scores(index, scores, keys, asked=before + some.asked)


def _counted(store: RoundStore, index: int) -> tuple[int, int]:
    """(rewards that failed, rewards that were asked for) in a chunk."""
    scores, _ = store.read_scores(index)
    failed = len(scores.failures)
    return failed, failed + sum(not math.isnan(value) for value in scores.values)


@dataclass(frozen=True)
class FailureBudget:
    """How many rewards may fail before the run ends rather than go on with what is left.

    Attributes:
        limit: Below 1 a share of those asked for in a round, from 1 on a count over the whole run; None: any number, as
            long as one of a round does not fail.
        previous_failures: How many failed in earlier rounds.
        distributed: Several processes ask, and each knows its own failures until all have asked.
    """

    limit: "float | None"
    previous_failures: int = 0
    distributed: bool = False

    def exceeded(self, failed: int, asked: int, total: int) -> bool:
        """Whether so many failures of so many asked are too many; of ``total``, if all were asked."""
        if self.limit is None:
            return False
        if self.limit >= 1:
            return self.previous_failures + failed > self.limit
        return failed > self.limit * max(asked, min(total, ENOUGH))  # a share of too few says nothing


ENOUGH = 100
"""Answers that a share is judged by, where a round has so many."""


def raise_if_too_many_failed(
    store: RoundStore, reward: Reward, budget: FailureBudget, barrier: Callable[[], None]
) -> None:
    """End the run where too many rewards failed; what failed is asked again when it goes on.

    Args:
        store: The round, as far as it is scored; every process reads the same.
        reward: That was asked.
        budget: Of failures.
        barrier: Waits for the other processes.

    Raises:
        GraftError: The budget is exceeded, or nothing was scored.
    """
    there = [index for index in range(len(store.rows)) if store.has_scores(index)]
    counts = [_counted(store, index) for index in there]
    failed, answered = sum(f for f, _ in counts), sum(a for _, a in counts)
    stopped = len(there) < len(store.rows)  # by the process that has the rest
    nothing = not stopped and 0 < failed == answered
    if not (stopped or nothing or budget.exceeded(failed, answered, answered)):
        return
    reasons = Counter(why for index in there for why in store.read_scores(index)[0].failures.values())
    barrier()
    store.mark_failures_for_retry()
    barrier()
    why, often = reasons.most_common(1)[0]
    why = bounded(why, 300)
    if nothing:
        said = f"for all {answered} draws (first: {why})"
    else:
        said = f"for {failed} of {answered} draws ({often} times: {why})"
        if budget.previous_failures:
            said += f" and for {budget.previous_failures} in earlier rounds"
        said += f", more than data.max_failures {budget.limit:g} allows"
    raise GraftError(
        f"the reward {reward.name} failed {said}: mend it and go on with --ckpt_path last, where only what failed is "
        f"asked again; the draws are kept in {store.folder}"
    )


def select_by_proxy(
    module: GraftModule,
    screen: Reward,
    store: RoundStore,
    most: int,
    chunks: Iterable[int],
    barrier: Callable[[], None],
    generator: "Generator | None",
) -> Tensor:
    """(draws,) bool: the ``most`` draws that a cheap reward ranks highest within their condition.

    Args:
        module: Decodes the draws.
        screen: The cheap reward, closed at the end.
        store: The round, with its draws.
        most: Draws to choose.
        chunks: This process's.
        barrier: Waits for the other processes.
        generator: Of the choice among equals; see `graft.rounds.asked.screened`.
    """
    by = fingerprint_hash(screen)
    try:
        for index in chunks:
            _screen_values(module, screen, by, store, index)
        barrier()
        values = screen_values(module, screen, store)
    finally:
        screen.teardown()
    groups, there = store_groups(module, store), ~values.isnan()
    if not variation(
        values, [((groups == group) & there).nonzero()[:, 0] for group in torch.unique(groups)]
    ).selectable:
        rank_zero_print(
            f"the screen {screen.name} does not tell draws of a condition apart: which of them pass it is arbitrary"
        )
    return screened(values, groups, most, generator)


def screen_values(module: GraftModule, screen: Reward, store: RoundStore) -> Tensor:
    """(draws,) what a cheap reward says of a round, larger is better; NaN where it failed."""
    by = fingerprint_hash(screen)
    found = [value for index in range(len(store.rows)) for value in _screen_values(module, screen, by, store, index)]
    values = torch.tensor(found, dtype=torch.float64)
    return values if screen.higher_is_better else -values


def _screen_values(module: GraftModule, screen: Reward, by: str, store: RoundStore, index: int) -> list[float]:
    def values_of() -> list[float]:
        chunk = store.read_chunk(index)
        return ask(screen, module.decode(chunk.state, chunk.condition)).values

    return store.proxy_scores(index, by, values_of)


def store_groups(module: GraftModule, store: RoundStore) -> Tensor:
    """(draws,) integer of the condition of each draw of a round."""
    return torch.cat([module.group(store.read_chunk(index).condition).cpu() for index in range(len(store.rows))])
