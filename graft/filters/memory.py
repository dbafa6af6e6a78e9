"""Long-term memory: a key is not accepted again."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from typing_extensions import override

from graft.core import limits
from graft.filters.base import AcceptedHistory, Candidates, Filter


class Memory(Filter):
    """A key is accepted at most ``bucket_size`` times over this round and the rounds before it.

    This is de-duplication across rounds. Alone (rule `graft.accept.AcceptAll`), over R rounds of M draws of one
    distribution, a key of probability p is accepted min(bucket_size, Binomial(R M, p)) times; with ``bucket_size`` = 1
    it is accepted once with probability 1 − (1 − p)^(R M). The draws that are left of a key are chosen at random, so
    the distribution within a key does not change. A draw with an empty key is never rejected.

    Args:
        bucket_size: Number of acceptances of a key, at least 1; with 1 a round is de-duplicated as well.
        rounds: Number of rounds before the present one that are remembered; ``null`` for all.
    """

    hint = "draw more, raise 'bucket_size', or remember fewer 'rounds'"

    def __init__(self, bucket_size: int = 1, rounds: "int | None" = None) -> None:
        limits.check("bucket_size", bucket_size, 1)
        limits.check("rounds", rounds, 1)
        self.bucket_size, self.rounds = bucket_size, rounds

    @override
    def __call__(
        self, draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        remembered = past if self.rounds is None else past[-self.rounds :]
        accepted = Counter(key for round_ in remembered for key in round_.keys)
        left, duplicates, taken = draws.eligible.clone(), torch.zeros_like(draws.eligible), Counter[str]()
        for i in torch.randperm(len(left), generator=generator).tolist():
            key = draws.keys[i]
            if not left[i] or not key:
                continue
            if accepted[key] + taken[key] < self.bucket_size:
                taken[key] += 1
            else:
                left[i], duplicates[i] = False, taken[key] > 0
        return left, duplicates

    @override
    def __str__(self) -> str:
        often = "once" if self.bucket_size == 1 else f"{self.bucket_size} times"
        span = "" if self.rounds is None else f" in {self.rounds + 1} rounds"
        return f"each key {often}{span}"
