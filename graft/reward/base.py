"""Rewards: from decoded objects to one number each.

A failure costs its object alone, never the run.
"""

import inspect
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from torch import Tensor
from typing_extensions import override

from graft.core.copies import copies
from graft.core.recorded_arguments import Described
from graft.errors import GraftError
from graft.io.fingerprint import public_attributes
from graft.reward.code import described
from graft.reward.isolation import isolated

Signed = TypeVar("Signed", int, float, Tensor)


@dataclass
class Scores:
    """Scores of a batch of objects.

    Attributes:
        values: Score of each object; NaN for a failure.
        failures: Reason of each failure, by position.
        free: Positions of the objects that took no call of a reward, since their scores were cached.
        calls: Number of calls by the name of each reward that was called; None for `asked` calls of the reward that
            returned this. `ask` fills it in.
    """

    values: list[float]
    failures: dict[int, str] = field(default_factory=dict)
    free: set[int] = field(default_factory=set)
    calls: "dict[str, int] | None" = None

    @property
    def cached(self) -> int:
        """The number of objects that took no call of a reward."""
        return len(self.free)

    @property
    def asked(self) -> int:
        """The number of objects that took a call."""
        return len(self.values) - len(self.free)


@dataclass
class ScoredForm:
    """An object in the form in which a reward scored it, such as a docked pose.

    Attributes:
        item: Object that the domain can render and write.
        value: Value of the reward for this form.
    """

    item: Any
    value: float


class Reward(Described, ABC):
    """A black-box score of one decoded object.

    Larger is better unless ``higher_is_better`` is False.

    A subclass implements `score`. Attributes: ``name`` (shown in tables), ``unit`` (shown behind values, empty for a
    pure number), ``higher_is_better``.
    """

    name: str = "reward"
    unit: str = ""
    higher_is_better: bool = True
    copies_items: bool = False
    """True if the reward copies its objects before anything may edit them, so that `ask` does not."""

    def identity(self) -> Any:
        """Describe the reward for `graft.io.fingerprint.fingerprint`.

        The description is the class with its code, the constructor's arguments and the public attributes. If a part has
        no description, no other reward is the same, and scores are not reused.
        """
        kind = type(self)
        classes = [each for each in kind.__mro__ if issubclass(each, Reward)][:-1]
        content = described([classes, self._bound()])
        if content is None:
            content = {"unidentified": self.__dict__.setdefault("_token", uuid4().hex)}
        return {"class": f"{kind.__module__}.{kind.__qualname__}", "made": content, **public_attributes(self)}

    def _bound(self) -> Any:
        """Return the constructor's arguments by name, with defaults, and the rewards made of them."""
        args, kwargs = self._arguments
        try:
            bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        except (TypeError, ValueError):  # the constructor has no signature, or other arguments than in its signature
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
        """The rewards that are called and counted in place of this one; empty for most rewards."""
        return ()

    @property
    def worst_value(self) -> "float | None":
        """The bound of the values on the bad side, or None if there is none or it is not known.

        It is the smallest value, or the largest one if smaller is better. A subclass may set it as a class attribute.
        """
        return None

    @abstractmethod
    def score(self, item: Any) -> float:
        """Return the reward of one object.

        An exception, and a value that is not finite, fail this object alone.
        """

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every object; a failure becomes NaN with its reason and is never counted as 0."""
        scores = Scores([math.nan] * len(items))
        for i, item in enumerate(items):
            try:
                scores.values[i] = to_finite_float(self.score(item))
            except GraftError:
                raise
            except (Exception, SystemExit) as error:  # a reward that exits ends its own call alone
                scores.failures[i] = format_error(error)
        return scores

    def scored_form(self, item: Any) -> "ScoredForm | None":
        """Return the object in the form in which the reward scored it; None if the reward changes nothing.

        A report shows the forms of the best objects, and ``graft hits --as_scored`` writes them. The reward may be torn
        down before.
        """
        return None

    def setup(self) -> None:
        """Prepare the reward, so that errors appear before anything is sampled.

        Raises:
            GraftError: The reward cannot score.
        """

    def teardown(self) -> None:
        """Free resources of the reward, such as worker processes."""


class BatchReward(Reward):
    """A reward that scores many objects in one call: a subclass implements ``__call__``."""

    @abstractmethod
    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every object."""

    @override
    def score(self, item: Any) -> float:
        """Return the score of one object.

        Raises:
            ValueError: The object failed.
        """
        scores = self([item])
        if scores.failures:
            raise ValueError(scores.failures[0])
        return scores.values[0]


def score_batches(
    reward: Reward,
    items: Sequence[Any],
    batches: Iterable[Sequence[int]],
    values: Callable[[list[Any]], Sequence[Any]],
) -> Scores:
    """Score objects batch by batch.

    A batch that raises is scored again object by object with `Reward.score`, so that only the object with the fault
    fails.

    Args:
        reward: Reward of the objects; its `score` scores one.
        items: Objects.
        batches: Positions of the objects of each batch.
        values: Function from the objects of a batch to their scores.

    Raises:
        GraftError: Scoring raises one.
    """
    scores = Scores([math.nan] * len(items))
    for rows in batches:
        part = [items[i] for i in rows]
        try:
            found = [to_finite_float(value) for value in values(part)]
        except GraftError:
            raise
        except Exception:  # a reward may raise any type
            alone = Reward.__call__(reward, part)
            found = alone.values
            scores.failures |= {rows[j]: why for j, why in alone.failures.items()}
        for i, value in zip(rows, found, strict=True):
            scores.values[i] = value
    return scores


def ask(reward: Reward, items: Sequence[Any]) -> Scores:
    """Score copies of the objects and count the calls.

    The objects and this process stay as they were, whatever the reward does. Every value of the result is finite or has
    a failure. If a reward of many objects raises, they are scored one by one.

    Args:
        reward: Reward to call.
        items: Objects.

    Raises:
        GraftError: The reward returned no `Scores` with a value for each object.
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
            "with one value for each. Correct its __call__."
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


def oriented(rewards: Signed, higher_is_better: bool) -> Signed:
    """Return rewards with the sign that makes a larger value better; a second call gives the rewards back.

    Args:
        rewards: A reward, a tensor of rewards, or a difference of rewards.
        higher_is_better: False if a smaller reward is better; the sign is then changed.
    """
    return rewards if higher_is_better else -rewards


def joined(parts: Sequence[Scores]) -> Scores:
    """Return the scores of several batches as one."""
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
    """Return the rewards with counted calls: the reward itself, or the leaves of its parts."""
    return [leaf for part in reward.parts for leaf in leaves(part)] if reward.parts else [reward]


def by_term(reward: "Reward | None", parts: "Iterable[Mapping[str, int]]") -> dict[str, int]:
    """Return sums of numbers of calls by name; 0 for a reward that was never called."""
    total = Counter(dict.fromkeys((leaf.name for leaf in leaves(reward)) if reward is not None else (), 0))
    for part in parts:
        total.update(part)
    return dict(total)


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
