"""Score the samples of a round by chunks, within the budget of calls and failures."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from graft.core import seeding
from graft.core.distributed import rank_zero_print
from graft.domain import Domain
from graft.errors import GraftError
from graft.io.fingerprint import fingerprint_hash
from graft.reward import Reward, Scores, bounded, oriented, score_objects
from graft.rounds.budget_selection import equal_shares, top_per_group
from graft.rounds.ranks import Ranks
from graft.rounds.round_store import RoundStore
from graft.rounds.score_store import join_parts
from graft.rounds.settings import RoundSettings
from graft.rounds.variation import variation

Part = tuple[Scores, list[str]]
"""The scores of a chunk and the keys of its objects."""


class RoundScorer:
    """Scores the samples of a round. A score that is on disk is not computed again.

    Args:
        domain: The domain that decodes the samples.
        settings: The settings of the rounds.
        ranks: The ranks that score together.
        previous_failures: Number of rewards that failed in earlier rounds.
    """

    def __init__(self, domain: Domain, settings: RoundSettings, ranks: Ranks, previous_failures: int = 0) -> None:
        self.domain, self.settings, self.ranks = domain, settings, ranks
        self.budget = FailureBudget(settings.max_failures, previous_failures, ranks.world_size > 1)

    def score(self, store: RoundStore, number: int) -> Part:
        """Return and write the scores of all samples of a round, and the keys of their objects.

        Args:
            store: The store of the round, with its samples.
            number: Number of the round.

        Raises:
            GraftError: Too many rewards failed. Failed samples are scored again on resume.
        """
        parts: dict[int, Part] = {}
        if not self.settings.source.is_model:
            self._take_scores(store)
        else:
            chosen = self._choose(store, number)
            parts = self._score_chunks(store, chosen, number)
        self.ranks.wait()
        parts |= {
            i: store.read_scores(i) for i in range(len(store.chunk_sizes)) if i not in parts and store.has_scores(i)
        }
        if self.settings.source.is_model:
            self._check_failures(store, parts)
        return join_parts([parts[index] for index in range(len(store.chunk_sizes))])

    def _take_scores(self, store: RoundStore) -> None:
        for index in range(len(store.chunk_sizes)):
            ready = self.settings.source.preloaded(self.settings.chunk_slice(index))
            if ready is not None and not store.has_scores(index):
                store.write_scores(index, *ready[1:])

    def _choose(self, store: RoundStore, number: int) -> Tensor:
        """Return (draws,) bool, True for a sample to call the reward for."""
        settings, count = self.settings, sum(store.chunk_sizes)
        # the name is a part of the seed: another one would choose other draws
        generator = seeding.make_generator(settings.seed, "asked", number)
        most = int(min(settings.max_scored, count))
        if settings.proxy_reward is not None:
            return self._select_by_proxy(settings.proxy_reward, store, most, number, generator)
        if most >= count:
            return torch.ones(count, dtype=torch.bool)
        return equal_shares(store_groups(self.domain, store), most, generator)

    def _select_by_proxy(
        self, proxy: Reward, store: RoundStore, most: int, number: int, generator: Generator
    ) -> Tensor:
        """Return (draws,) bool: the ``most`` samples with the best proxy reward in their condition.

        The proxy reward is closed at the end.
        """
        by = fingerprint_hash(proxy)
        try:
            for index in self.ranks.chunks(number, "proxy rewards"):
                _chunk_proxy_values(self.domain, proxy, by, store, index)
            self.ranks.wait()
            values = proxy_values(self.domain, proxy, store)
        finally:
            proxy.teardown()
        groups, there = store_groups(self.domain, store), ~values.isnan()
        bins = [((groups == group) & there).nonzero()[:, 0] for group in torch.unique(groups)]
        if not variation(values, bins).selectable:
            rank_zero_print(
                f"the proxy reward {proxy.name} does not vary within any condition: it passes arbitrary draws"
            )
        return top_per_group(values, groups, most, generator)

    def _score_chunks(self, store: RoundStore, chosen: Tensor, number: int) -> dict[int, Part]:
        starts = [0, *itertools.accumulate(store.chunk_sizes)]
        parts: dict[int, Part] = {}
        failed = answered = 0
        reward = self.settings.require_reward
        try:
            for index in self.ranks.chunks(number, "scoring"):
                if store.has_scores(index):
                    parts[index] = store.read_scores(index)
                else:
                    parts[index] = self._score_chunk(reward, store, index, chosen[starts[index] : starts[index + 1]])
                failures, count = counted(parts[index][0])
                failed, answered = failed + failures, answered + count
                total = int(chosen.sum())  # the failure rate of other ranks may be lower
                if self.budget.exceeded(failed, total if self.budget.distributed else answered, total):
                    break
        finally:
            reward.teardown()
        return parts

    def _score_chunk(self, reward: Reward, store: RoundStore, index: int, among: Tensor) -> Part:
        chunk = store.read_chunk(index)
        items = self.domain.decode(chunk.state, chunk.condition)
        keyed = self.settings.accept.deduplicate or self.domain.supports("key")
        keys = [self.domain.key(item) for item in items] if keyed else [""] * len(items)
        chosen, scores, before = store.pending_retries(index), Scores([math.nan] * len(items)), 0
        if chosen is None:
            chosen = among.nonzero()[:, 0].tolist()
        else:
            scores, before = store.read_scores(index)[0], store.reward_calls(index)
        some = score_objects(reward, [items[i] for i in chosen])
        scores.failures = {chosen[i]: why for i, why in some.failures.items()}
        scores.calls = Counter(scores.calls or {}) + Counter(some.calls or {})
        for i, value in zip(chosen, some.values, strict=True):
            scores.values[i] = value
        store.write_scores(index, scores, keys, reward_calls=before + some.reward_calls)
        return scores, keys

    def _check_failures(self, store: RoundStore, parts: dict[int, Part]) -> None:
        """Raise GraftError if too many rewards failed. All ranks must call it with the same parts."""
        reward, budget = self.settings.require_reward, self.budget
        counts = [counted(scores) for scores, _ in parts.values()]
        failed, answered = sum(f for f, _ in counts), sum(a for _, a in counts)
        stopped = len(parts) < len(store.chunk_sizes)  # the rank of the missing chunks stopped early
        nothing = not stopped and 0 < failed == answered
        if not (stopped or nothing or budget.exceeded(failed, answered, answered)):
            return
        reasons = Counter(why for _, (scores, _) in sorted(parts.items()) for why in scores.failures.values())
        self.ranks.barrier()
        store.mark_failures_for_retry()
        self.ranks.barrier()
        why, often = reasons.most_common(1)[0]
        why = bounded(why, 300)
        if nothing:
            failures = f"for all {answered} draws (first: {why})"
        else:
            failures = f"for {failed} of {answered} draws ({often} times: {why})"
            if budget.previous_failures:
                failures += f" and for {budget.previous_failures} in earlier rounds"
            failures += f", more than data.budget.max_failures {budget.limit:g} allows"
        raise GraftError(
            f"the reward {reward.name} failed {failures}: fix the reward and resume with --ckpt_path last, which "
            f"scores only the failed draws again; the draws are kept in {store.folder}"
        )


def counted(scores: Scores) -> tuple[int, int]:
    """Return the number of failed rewards and the number of all scored draws."""
    failed = len(scores.failures)
    return failed, failed + sum(not math.isnan(value) for value in scores.values)


@dataclass(frozen=True)
class FailureBudget:
    """The number of rewards that may fail before the run ends.

    Attributes:
        limit: Below 1: largest failure rate in a round. From 1 on: largest number of failures in the run. None: no
            limit, but at least one reward of a round must succeed.
        previous_failures: Number of rewards that failed in earlier rounds.
        distributed: True if several ranks score. A rank then counts only its own failures until all ranks are done.
    """

    limit: "float | None"
    previous_failures: int = 0
    distributed: bool = False

    def exceeded(self, failed: int, scored: int, total: int) -> bool:
        """Return True if ``failed`` of ``scored`` rewards, ``total`` in the round, exceed the limit."""
        if self.limit is None:
            return False
        if self.limit >= 1:
            return self.previous_failures + failed > self.limit
        return failed > self.limit * max(scored, min(total, ENOUGH))  # a rate of a few scores is too noisy


ENOUGH = 100
"""Smallest number of scores from which a failure rate is computed."""


def proxy_values(domain: Domain, proxy: Reward, store: RoundStore) -> Tensor:
    """Return (draws,) proxy rewards, larger is better; NaN for a failed one."""
    by = fingerprint_hash(proxy)
    found = [
        value
        for index in range(len(store.chunk_sizes))
        for value in _chunk_proxy_values(domain, proxy, by, store, index)
    ]
    values = torch.tensor(found, dtype=torch.float64)
    return oriented(values, proxy.higher_is_better)


def _chunk_proxy_values(domain: Domain, proxy: Reward, by: str, store: RoundStore, index: int) -> list[float]:
    def values_of() -> list[float]:
        chunk = store.read_chunk(index)
        return score_objects(proxy, domain.decode(chunk.state, chunk.condition)).values

    return store.proxy_scores(index, by, values_of)


def store_groups(domain: Domain, store: RoundStore) -> Tensor:
    """Return (draws,) integer of the condition of each sample."""
    return torch.cat([domain.group(store.read_chunk(index).condition).cpu() for index in range(len(store.chunk_sizes))])
