"""Long-term memory: what was accepted before is not accepted again."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from graft.errors import GraftError
from graft.filters.base import Candidates, Filter, Past


class Memory(Filter):
    """A key is accepted at most ``times`` times over this round and the rounds before it.

    De-duplication across rounds. Alone (rule `graft.accept.All`) over R rounds of M draws of one law: a key of
    probability p is accepted min(times, Binomial(R M, p)) times, so with ``times`` = 1 with probability 1 − (1 − p)^(R
    M), once. The draws that are left of a key are any of them alike, so the law within a key is not changed. A draw
    with an empty key is never refused.

    Args:
        times: At least 1; with 1 a round is de-duplicated as well.
        window: Only this many rounds before the present one are remembered; ``null``: all.
    """

    remedy = "draw more, raise 'times', or forget earlier rounds with a 'window'"

    def __init__(self, times: int = 1, window: "int | None" = None) -> None:
        if times < 1:
            raise GraftError(f"times is {times}, but a memory must let each key be accepted at least once")
        if window is not None and window < 1:
            raise GraftError(f"window is {window}, but a memory remembers at least 1 round, or all of them with null")
        self.times, self.window = times, window

    def __call__(
        self, draws: Candidates, past: Sequence[Past], generator: "Generator | None" = None
    ) -> tuple[Tensor, Tensor]:
        """See `Filter.__call__`."""
        remembered = past if self.window is None else past[-self.window :]
        accepted = Counter(key for round_ in remembered for key in round_.keys)
        left, spare, taken = draws.left.clone(), torch.zeros_like(draws.left), Counter[str]()
        for i in torch.randperm(len(left), generator=generator).tolist():
            key = draws.keys[i]
            if not left[i] or not key:
                continue
            if accepted[key] + taken[key] < self.times:
                taken[key] += 1
            else:
                left[i], spare[i] = False, taken[key] > 0
        return left, spare

    def __str__(self) -> str:
        often = "once" if self.times == 1 else f"{self.times} times"
        span = "" if self.window is None else f" in {self.window + 1} rounds"
        return f"each key {often}{span}"
