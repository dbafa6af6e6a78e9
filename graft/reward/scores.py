"""Scores: a number or a failure for each object."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from torch import Tensor

Signed = TypeVar("Signed", int, float, Tensor)


@dataclass
class Scores:
    """Scores of a batch of objects.

    Attributes:
        values: Score of each object; NaN for a failure.
        failures: Reason of each failure, by position.
        cached: Positions of the objects that took no call of a reward: their scores were cached, or they could not be
            sent.
        calls: Number of calls by the name of each reward that was called; None for `reward_calls` calls of the reward
            that returned this. `score_objects` fills it in.
    """

    values: list[float]
    failures: dict[int, str] = field(default_factory=dict)
    cached: set[int] = field(default_factory=set)
    calls: "dict[str, int] | None" = None

    @property
    def reward_calls(self) -> int:
        """The number of objects that took a call."""
        return len(self.values) - len(self.cached)


def oriented(rewards: Signed, higher_is_better: bool) -> Signed:
    """Return rewards with the sign that makes a larger value better; a second call gives the rewards back.

    Args:
        rewards: A reward, a tensor of rewards, or a difference of rewards.
        higher_is_better: False if a smaller reward is better; the sign is then changed.
    """
    return rewards if higher_is_better else -rewards


def concatenate_scores(parts: Sequence[Scores]) -> Scores:
    """Return the scores of several batches as one."""
    out, calls = Scores([]), Counter[str]()
    for part in parts:
        start = len(out.values)
        out.values += part.values
        out.failures |= {start + i: why for i, why in part.failures.items()}
        out.cached |= {start + i for i in part.cached}
        calls.update(part.calls or {})
    out.calls = dict(calls)
    return out


LARGEST = 1e100
"""Largest magnitude of a reward. Means and variances of larger ones overflow; programs return them for failures."""


def to_finite_float(value: Any) -> float:
    """Return ``value`` as a finite float.

    Raises:
        ValueError: The value is not a number, NaN, infinite, or beyond `LARGEST`.
    """
    try:
        if isinstance(value, str | bytes):  # the text "0" is not a score
            raise TypeError
        number = float(value)
    except Exception:  # a reward may return any type
        raise ValueError(f"the reward is not a number but {type(value).__name__}") from None
    if not math.isfinite(number):
        raise ValueError(f"the reward is {number}")
    if abs(number) > LARGEST:
        raise ValueError(f"the reward is {number:g}, beyond the largest number that is averaged, {LARGEST:g}")
    return number


def format_error(error: BaseException) -> str:
    """Return one line about a failure, of at most `MOST_TEXT` characters."""
    try:
        text = str(error).strip().splitlines()
    except Exception:  # the reward's own exception class may fail here
        text = []
    name = type(error).__name__
    if not text:
        return bounded(name)
    plain = isinstance(error, ValueError | TimeoutError | RuntimeError)
    return bounded(text[0] if plain else f"{name}: {text[0]}")


MOST_TEXT = 2_000
"""Largest number of characters of a failure."""


def bounded(text: str, most: int = MOST_TEXT) -> str:
    """Return a text cut to ``most`` characters; a note gives the whole length of a longer text."""
    if len(text) <= most:
        return text
    note = f" … (cut: {len(text):,} characters in all)"
    return text[: most - len(note)] + note
