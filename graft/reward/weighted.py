"""Several rewards as one: composite rewards, and the weighted sum."""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from graft.core import limits
from graft.core.copies import copied
from graft.errors import GraftError
from graft.reward.base import Reward
from graft.reward.calls import score_objects
from graft.reward.function import Scorer, scorer
from graft.reward.scores import Scores, format_error, oriented


class CompositeReward(Reward):
    """One number made of several rewards; an object fails if one of them fails.

    Each reward gets copies of its own, and its calls are counted apart.

    Args:
        terms: Rewards.
        weights: Weight of each reward.
    """

    copies_items = True

    def __init__(self, terms: "Sequence[Scorer]", weights: "Sequence[float]") -> None:
        if len(terms) != len(weights) or not terms:
            raise GraftError(
                f"{len(terms)} rewards and {len(weights)} weights: give at least one, and a weight for each"
            )
        for weight in weights:
            limits.check("weights", weight)
        self.terms = [scorer(term, f"term {i + 1} of {type(self).__name__}") for i, term in enumerate(terms)]
        self.weights = list(weights)

    @property
    @override
    def parts(self) -> Sequence[Reward]:
        return self.terms

    @abstractmethod
    def combine(self, values: Sequence[float]) -> float:
        """Return one number from the rewards of an object."""

    @override
    def score(self, item: Any) -> float:
        return self.combine([term.score(copied(item)) for term in self.terms])

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        parts = [score_objects(term, items) for term in self.terms]
        calls = sum((Counter(part.calls) for part in parts), Counter[str]())
        scores = Scores([math.nan] * len(items), cached=set.intersection(*(part.cached for part in parts)), calls=calls)
        for term, part in zip(self.terms, parts, strict=True):
            scores.failures |= {i: f"{term.name}: {why}" for i, why in part.failures.items()}
        for i in range(len(items)):
            values = [part.values[i] for part in parts]
            if i not in scores.failures:
                try:
                    scores.values[i] = self.combine(values)
                except Exception as error:
                    scores.failures[i] = format_error(error)
        return scores

    @override
    def setup(self) -> None:
        for term in self.terms:
            term.setup()

    @override
    def teardown(self) -> None:
        for term in self.terms:
            term.teardown()


class WeightedSum(CompositeReward):
    """A weighted sum of rewards.

    A reward with smaller values being better counts with the opposite sign.

    Args:
        terms: Rewards.
        weights: Weight of each reward.
    """

    def __init__(self, terms: "list[Scorer]", weights: "list[float]") -> None:
        super().__init__(terms, weights)
        self.weights = [oriented(w, term.higher_is_better) for term, w in zip(self.terms, weights, strict=True)]
        self.name = " + ".join(f"{w:g} {term.name}" for term, w in zip(self.terms, self.weights, strict=True))

    @property
    @override
    def worst_value(self) -> "float | None":
        """The sum of the worst values; None if a term has none or has a negative weight."""
        total = 0.0
        for term, w in zip(self.terms, self.weights, strict=True):
            if term.worst_value is None or oriented(w, term.higher_is_better) < 0:
                return None
            total += w * term.worst_value
        return total

    @override
    def combine(self, values: Sequence[float]) -> float:
        return sum(w * value for w, value in zip(self.weights, values, strict=True))
