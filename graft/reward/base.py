"""The interface of a reward: from decoded objects to one number each."""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from typing_extensions import override

from graft.core.recorded_arguments import Described
from graft.errors import GraftError
from graft.io.fingerprint import public_attributes
from graft.reward.code import describe_code
from graft.reward.scores import Scores, format_error, to_finite_float

if TYPE_CHECKING:
    from graft.domain import Domain


@dataclass
class ScoredForm:
    """An object in the form in which a reward scored it, such as a docked pose.

    Attributes:
        item: Object that the domain can render and write.
        value: Value of the reward for this form.
    """

    item: Any
    value: float


def score_each(score: Callable[[Any], float], items: Sequence[Any]) -> Scores:
    """Score objects one by one.

    Args:
        score: Function from an object to its score. An exception, and a value that is not finite, fail this object
            alone.
        items: Objects.

    Raises:
        GraftError: ``score`` raises one.
    """
    scores = Scores([math.nan] * len(items))
    for i, item in enumerate(items):
        try:
            scores.values[i] = to_finite_float(score(item))
        except GraftError:
            raise
        except (Exception, SystemExit) as error:  # a reward that exits ends its own call alone
            scores.failures[i] = format_error(error)
    return scores


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
    """True if the reward copies its objects before anything may edit them, so that `score_objects` does not."""

    def identity(self) -> Any:
        """Describe the reward for `graft.io.fingerprint.fingerprint`.

        The description is the class with its code, the constructor's arguments and the public attributes. If a part has
        no description, no other reward is the same, and scores are not reused.
        """
        kind = type(self)
        classes = [each for each in kind.__mro__ if issubclass(each, Reward)][:-1]
        content = describe_code([classes, self._bound()])
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
        return score_each(self.score, items)

    def scored_form(self, item: Any) -> "ScoredForm | None":
        """Return the object in the form in which the reward scored it; None if the reward changes nothing.

        A report shows the forms of the best objects, and ``graft hits --as_scored`` writes them. The reward may be torn
        down before.
        """
        return None

    def bind(self, domain: "Domain", folder: "Path | None" = None) -> None:
        """Take the domain of the objects and the folder of the run, if there is one; most rewards need neither.

        A reward that hands objects to other programs or to people writes or renders them with the domain.
        """

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
        scores = self([item])
        if scores.failures:
            raise ValueError(scores.failures[0])
        return scores.values[0]
