"""Several rewards as one: what has terms, and the weighted sum of them."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from graft.errors import GraftError
from graft.reward.base import Reward, Scores


class Combined(Reward):
    """One number made of several rewards; an object that one of them fails on fails.

    Args:
        terms: The rewards.
        weights: One for each.
    """

    def __init__(self, terms: "list[Reward]", weights: "list[float]") -> None:
        if len(terms) != len(weights) or not terms:
            raise GraftError(
                f"{len(terms)} rewards and {len(weights)} weights: give at least one, and a weight for each"
            )
        self.terms, self.weights = terms, weights

    @abstractmethod
    def combine(self, values: Sequence[float]) -> float:
        """One number of an object's rewards."""

    def score(self, item: Any) -> float:
        """What the rewards of one object come to."""
        return self.combine([term.score(item) for term in self.terms])

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every object with every term."""
        parts = [term(items) for term in self.terms]
        scores = Scores([math.nan] * len(items))
        for term, part in zip(self.terms, parts, strict=True):
            scores.failures |= {i: f"{term.name}: {why}" for i, why in part.failures.items()}
        for i in range(len(items)):
            values = [part.values[i] for part in parts]
            if i not in scores.failures and not any(map(math.isnan, values)):
                scores.values[i] = self.combine(values)
        return scores

    def open(self) -> None:
        """Get the terms ready."""
        for term in self.terms:
            term.open()

    def close(self) -> None:
        """Free what the terms hold."""
        for term in self.terms:
            term.close()


class Weighted(Combined):
    """A weighted sum of rewards; one whose smaller values are better counts with the opposite sign.

    Args:
        terms: The rewards.
        weights: One for each.
    """

    def __init__(self, terms: "list[Reward]", weights: "list[float]") -> None:
        super().__init__(terms, weights)
        self.weights = [w if term.maximise else -w for term, w in zip(terms, weights, strict=True)]
        self.name = " + ".join(f"{w:g} {term.name}" for term, w in zip(terms, self.weights, strict=True))

    @property
    def worst(self) -> "float | None":
        """The sum of the worst values; None where a term has none, or a negative weight makes it the best."""
        total = 0.0
        for term, w in zip(self.terms, self.weights, strict=True):
            if term.worst is None or (w if term.maximise else -w) < 0:
                return None
            total += w * term.worst
        return total

    def combine(self, values: Sequence[float]) -> float:
        """The sum."""
        return sum(w * value for w, value in zip(self.weights, values, strict=True))
