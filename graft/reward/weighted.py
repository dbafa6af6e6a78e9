"""Several rewards as one: what has terms, and the weighted sum of them."""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any

from graft.copies import copied
from graft.errors import GraftError
from graft.reward.base import Reward, Scores, ask, format_error
from graft.reward.function import Scorer, scorer


class CompositeReward(Reward):
    """One number made of several rewards; an object that one of them fails on fails.

    Each reward gets copies of its own, and its calls are counted apart.

    Args:
        terms: The rewards.
        weights: One for each.
    """

    copies_items = True

    def __init__(self, terms: "Sequence[Scorer]", weights: "Sequence[float]") -> None:
        if len(terms) != len(weights) or not terms:
            raise GraftError(
                f"{len(terms)} rewards and {len(weights)} weights: give at least one, and a weight for each"
            )
        self.terms = [scorer(term, f"term {i + 1} of {type(self).__name__}") for i, term in enumerate(terms)]
        self.weights = list(weights)

    @property
    def parts(self) -> Sequence[Reward]:
        """The terms."""
        return self.terms

    @abstractmethod
    def combine(self, values: Sequence[float]) -> float:
        """One number of an object's rewards."""

    def score(self, item: Any) -> float:
        """What the rewards of one object come to."""
        return self.combine([term.score(copied(item)) for term in self.terms])

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every object with every term."""
        parts = [ask(term, items) for term in self.terms]
        calls = sum((Counter(part.calls) for part in parts), Counter[str]())
        scores = Scores([math.nan] * len(items), free=set.intersection(*(part.free for part in parts)), calls=calls)
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

    def setup(self) -> None:
        """Get the terms ready."""
        for term in self.terms:
            term.setup()

    def teardown(self) -> None:
        """Free what the terms hold."""
        for term in self.terms:
            term.teardown()


class WeightedSum(CompositeReward):
    """A weighted sum of rewards; one whose smaller values are better counts with the opposite sign.

    Args:
        terms: The rewards.
        weights: One for each.
    """

    def __init__(self, terms: "list[Scorer]", weights: "list[float]") -> None:
        super().__init__(terms, weights)
        self.weights = [w if term.higher_is_better else -w for term, w in zip(self.terms, weights, strict=True)]
        self.name = " + ".join(f"{w:g} {term.name}" for term, w in zip(self.terms, self.weights, strict=True))

    @property
    def worst_value(self) -> "float | None":
        """The sum of the worst values; None where a term has none, or a negative weight makes it the best."""
        total = 0.0
        for term, w in zip(self.terms, self.weights, strict=True):
            if term.worst_value is None or (w if term.higher_is_better else -w) < 0:
                return None
            total += w * term.worst_value
        return total

    def combine(self, values: Sequence[float]) -> float:
        """The sum."""
        return sum(w * value for w, value in zip(self.weights, values, strict=True))
