"""Rewards: decoded objects in, one number each out; what fails for one sample costs that sample, never the run."""

import inspect
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from graft.copies import copies
from graft.errors import GraftError
from graft.fingerprint import public_attributes
from graft.recorded_arguments import Described
from graft.reward.code import described
from graft.reward.isolation import isolated


@dataclass
class Scores:
    """What a reward said of a batch.

    Attributes:
        values: NaN where it failed.
        failures: The reason of each failure, by position.
        free: Positions of the objects that took no call of a reward: their value was remembered.
        calls: Number of calls by the name of each reward that was called; None: `asked` of the reward that returned
            this. `ask` fills it in.
    """

    values: list[float]
    failures: dict[int, str] = field(default_factory=dict)
    free: set[int] = field(default_factory=set)
    calls: "dict[str, int] | None" = None

    @property
    def cached(self) -> int:
        """Number of objects that took no call of a reward."""
        return len(self.free)

    @property
    def asked(self) -> int:
        """Number of objects whose value took a call."""
        return len(self.values) - len(self.free)


class Reward(Described, ABC):
    """A black-box score of one decoded object; a larger value is better unless ``higher_is_better`` is False.

    A subclass implements `score`. Attributes: ``name`` (shown in tables), ``unit`` (shown behind values, empty for a
    pure number), ``higher_is_better``.
    """

    name: str = "reward"
    unit: str = ""
    higher_is_better: bool = True
    copies_items: bool = False
    """The reward copies its objects itself before anything may edit them, so that `ask` need not."""

    def identity(self) -> Any:
        """Describe the reward for `graft.fingerprint.fingerprint`.

        It is the class with its code, the arguments that the reward was made with, and the public attributes. Where a
        part of that cannot be told, no other reward is the same, and scores are not reused.
        """
        kind = type(self)
        classes = [each for each in kind.__mro__ if issubclass(each, Reward)][:-1]
        content = described([classes, self._bound()])
        if content is None:
            content = {"unidentified": self.__dict__.setdefault("_token", uuid4().hex)}
        return {"class": f"{kind.__module__}.{kind.__qualname__}", "made": content, **public_attributes(self)}

    def _bound(self) -> Any:
        """The constructor's arguments by name, with its defaults, and the rewards that some of them have become."""
        args, kwargs = self._arguments
        try:
            bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        except (TypeError, ValueError):  # a constructor without a signature, or one that was called in another way
            return [args, kwargs]
        bound.apply_defaults()
        out = dict(list(bound.arguments.items())[1:])
        for name in out:
            now = vars(self).get(name)
            if isinstance(now, Reward) or (isinstance(now, list) and any(isinstance(each, Reward) for each in now)):
                out[name] = now
        return dict(sorted(out.items()))

    @property
    def parts(self) -> "Sequence[Reward]":
        """The rewards that this one is made of, which are called and counted in its place; empty for most."""
        return ()

    @property
    def worst_value(self) -> "float | None":
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
                scores.values[i] = to_finite_float(self.score(item))
            except GraftError:
                raise
            except (Exception, SystemExit) as error:  # what a reward exits from is its own
                scores.failures[i] = format_error(error)
        return scores

    def setup(self) -> None:
        """Get ready, so that what cannot work is said before anything is drawn.

        Raises:
            GraftError: It cannot score.
        """

    def teardown(self) -> None:
        """Free what the reward holds (worker processes)."""


class BatchReward(Reward):
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


def ask(reward: Reward, items: Sequence[Any]) -> Scores:
    """Score copies of the objects and count the calls.

    Whatever the reward does to its copies and to this process, the objects and the process stay as they were. Every
    value of the result is finite or has a failure. Where a reward of many objects at once raises, they are scored one
    by one.

    Args:
        reward: The reward.
        items: The objects.

    Raises:
        GraftError: The reward returned something else than a `Scores` with a value for each object.
    """
    if not items:
        return Scores([], calls={})
    try:
        with isolated():
            scores = reward(items if reward.copies_items else copies(items))
    except GraftError:
        raise
    except (Exception, SystemExit) as error:
        if len(items) == 1:
            return Scores([math.nan], {0: format_error(error)}, calls={reward.name: 1})
        return joined([ask(reward, [item]) for item in items])
    if not isinstance(scores, Scores) or len(scores.values) != len(items):
        found = f"{len(scores.values)} values" if isinstance(scores, Scores) else type(scores).__name__
        raise GraftError(
            f"the reward {reward.name} returned {found} for {len(items)} objects; it must return a graft.reward.Scores "
            "with one value for each. Mend its __call__."
        )
    for i, value in enumerate(scores.values):
        if i in scores.failures:
            scores.values[i] = math.nan
            continue
        try:
            scores.values[i] = to_finite_float(value)
        except ValueError as error:
            scores.values[i], scores.failures[i] = math.nan, str(error)
    if scores.calls is None:
        scores.calls = {reward.name: scores.asked}
    return scores


def joined(parts: Sequence[Scores]) -> Scores:
    """The scores of several batches as those of one."""
    out, calls = Scores([]), Counter[str]()
    for part in parts:
        start = len(out.values)
        out.values += part.values
        out.failures |= {start + i: why for i, why in part.failures.items()}
        out.free |= {start + i for i in part.free}
        calls.update(part.calls or {})
    out.calls = dict(calls)
    return out


def leaves(reward: Reward) -> list[Reward]:
    """The rewards whose calls are counted: the reward itself, or of one that is made of others theirs."""
    return [leaf for part in reward.parts for leaf in leaves(part)] if reward.parts else [reward]


def by_term(reward: "Reward | None", parts: "Iterable[Mapping[str, int]]") -> dict[str, int]:
    """Sum numbers of calls by name; 0 for a reward that was never called."""
    total = Counter(dict.fromkeys((leaf.name for leaf in leaves(reward)) if reward is not None else (), 0))
    for part in parts:
        total.update(part)
    return dict(total)


LARGEST = 1e100
"""Magnitude of a reward beyond which means and variances overflow; programs return such numbers for failures."""


def to_finite_float(value: Any) -> float:
    """``value`` as a finite float.

    Raises:
        ValueError: It is not a number, NaN, infinite, or beyond `LARGEST`.
    """
    try:
        if isinstance(value, str | bytes):  # "0" is no score
            raise TypeError
        number = float(value)
    except Exception:  # of whatever type the reward returned
        raise ValueError(f"the reward is not a number but {type(value).__name__}") from None
    if not math.isfinite(number):
        raise ValueError(f"the reward is {number}")
    if abs(number) > LARGEST:
        raise ValueError(f"the reward is {number:g}, beyond the largest number that is averaged, {LARGEST:g}")
    return number


def format_error(error: BaseException) -> str:
    """Return one line for a failure, of at most `MOST_TEXT` characters."""
    try:
        text = str(error).strip().splitlines()
    except Exception:  # of an exception class of the reward's own
        text = []
    name = type(error).__name__
    if not text:
        return bounded(name)
    told = isinstance(error, ValueError | TimeoutError | RuntimeError)
    return bounded(text[0] if told else f"{name}: {text[0]}")


MOST_TEXT = 2_000
"""Characters of a failure that are kept."""


def bounded(text: str, most: int = MOST_TEXT) -> str:
    """Return a text cut to ``most`` characters, with a note of its whole length where it is longer."""
    if len(text) <= most:
        return text
    note = f" … (cut: {len(text):,} characters in all)"
    return text[: most - len(note)] + note
