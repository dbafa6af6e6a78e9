"""Long-term memory: what was accepted before is not accepted again."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from graft.errors import GraftError
from graft.filters.base import AcceptedHistory, Candidates, Filter


class Memory(Filter):
    """A key is accepted at most ``bucket_size`` times over this round and the rounds before it.

    De-duplication across rounds. Alone (rule `graft.accept.AcceptAll`) over R rounds of M draws of one law: a key of
    probability p is accepted min(times, Binomial(R M, p)) times, so with ``bucket_size`` = 1 with probability 1 − (1 −
    p)^(R M), once. The draws that are left of a key are any of them alike, so the law within a key is not changed. A
    draw with an empty key is never refused.

    Args:
        bucket_size: At least 1; with 1 a round is de-duplicated as well.
        rounds: Only this many rounds before the present one are remembered; ``null``: all.
    """

    hint = "draw more, raise 'times', or forget earlier rounds with a 'window'"

    def __init__(self, bucket_size: int = 1, rounds: "int | None" = None) -> None:
        if bucket_size < 1:
            raise GraftError(f"bucket_size is {bucket_size}, but a memory must let each key be accepted at least once")
        if rounds is not None and rounds < 1:
            raise GraftError(f"rounds is {rounds}, but a memory remembers at least 1 round, or all of them with null")
        self.bucket_size, self.rounds = bucket_size, rounds

    def __call__(
        self, draws: Candidates, past: Sequence[AcceptedHistory], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        """See `Filter.__call__`."""
        remembered = past if self.rounds is None else past[-self.rounds :]
        accepted = Counter(key for round_ in remembered for key in round_.keys)
        left, spare, taken = draws.eligible.clone(), torch.zeros_like(draws.eligible), Counter[str]()
        for i in torch.randperm(len(left), generator=generator).tolist():
            key = draws.keys[i]
            if not left[i] or not key:
                continue
            if accepted[key] + taken[key] < self.bucket_size:
                taken[key] += 1
            else:
                left[i], spare[i] = False, taken[key] > 0
        return left, spare

    def __str__(self) -> str:
        often = "once" if self.bucket_size == 1 else f"{self.bucket_size} times"
        span = "" if self.rounds is None else f" in {self.rounds + 1} rounds"
        return f"each key {often}{span}"
