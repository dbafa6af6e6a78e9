"""Rewards: decoded objects in, one number each out; what fails for one sample costs that sample, never the run."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from graft.errors import GraftError


@dataclass
class Scores:
    """What a reward said of a batch.

    Attributes:
        values: NaN where it failed.
        failures: The reason of each failure, by position.
        cached: How many values were known before.
    """

    values: list[float]
    failures: dict[int, str] = field(default_factory=dict)
    cached: int = 0


class Reward(ABC):
    """A black-box score of one decoded object; a larger value is better unless ``maximise`` is False.

    A subclass implements `score`. Attributes: ``name`` (shown in tables), ``unit`` (shown behind values, empty for a
    pure number), ``maximise``.
    """

    name: str = "reward"
    unit: str = ""
    maximise: bool = True

    @property
    def worst(self) -> "float | None":
        """The value that nothing scores worse than: the least, or the largest of a reward whose smaller are better.

        None where there is none, or nobody knows. A subclass that has one says so in a line: ``worst = 0.0``.
        """
        return None

    @abstractmethod
    def score(self, item: Any) -> float:
        """The reward of one object. Anything raised, and a value that is not finite, fails this object alone."""

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every object; a failure becomes NaN with its reason and is never counted as 0."""
        scores = Scores([math.nan] * len(items))
        for i, item in enumerate(items):
            try:
                scores.values[i] = finite(self.score(item))
            except GraftError:
                raise
            except (Exception, SystemExit) as error:  # what a reward exits from is its own
                scores.failures[i] = reason(error)
        return scores

    def open(self) -> None:  # noqa: B027  (most rewards need nothing)
        """Get ready, so that what cannot work is said before anything is drawn.

        Raises:
            GraftError: It cannot score.
        """

    def close(self) -> None:  # noqa: B027  (most rewards hold nothing)
        """Free what the reward holds (worker processes)."""


class Batched(Reward):
    """A reward that scores many objects in one go: a subclass implements ``__call__``."""

    @abstractmethod
    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every object."""

    def score(self, item: Any) -> float:
        """The score of one object.

        Raises:
            ValueError: It failed.
        """
        scores = self([item])
        if scores.failures:
            raise ValueError(scores.failures[0])
        return scores.values[0]


def finite(value: Any) -> float:
    """``value`` as a finite float.

    Raises:
        ValueError: It is not a number, or NaN or infinite.
    """
    try:
        if isinstance(value, str | bytes):  # "0" is no score
            raise TypeError
        number = float(value)
    except Exception:  # of whatever type the reward returned
        raise ValueError(f"the reward is not a number but {type(value).__name__}") from None
    if not math.isfinite(number):
        raise ValueError(f"the reward is {number}")
    return number


def reason(error: BaseException) -> str:
    """One line for a failure."""
    text = str(error).strip().splitlines()
    name = type(error).__name__
    if not text:
        return name
    told = isinstance(error, ValueError | TimeoutError | RuntimeError)
    return text[0] if told else f"{name}: {text[0]}"
