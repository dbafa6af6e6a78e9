"""A weighted sum of rewards."""

from collections.abc import Sequence
from typing import Any

from graft.errors import GraftError
from graft.reward import Reward, Scores


class Weighted(Reward):
    """A weighted sum of rewards; one whose smaller values are better counts with the opposite sign.

    An object that one of the rewards fails on fails.

    Args:
        terms: The rewards.
        weights: One for each.
    """

    def __init__(self, terms: "list[Reward]", weights: "list[float]") -> None:
        if len(terms) != len(weights) or not terms:
            raise GraftError(
                f"{len(terms)} rewards and {len(weights)} weights: give at least one, and a weight for each"
            )
        self.terms = terms
        self.weights = [w if term.maximise else -w for term, w in zip(terms, weights, strict=True)]
        self.name = " + ".join(f"{w:g} {term.name}" for term, w in zip(terms, self.weights, strict=True))

    def score(self, item: Any) -> float:
        """The sum."""
        return sum(w * term.score(item) for term, w in zip(self.terms, self.weights, strict=True))

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every object with every term."""
        scores = Scores([0.0] * len(items))
        for term, weight in zip(self.terms, self.weights, strict=True):
            part = term(items)
            scores.values = [sum_ + weight * value for sum_, value in zip(scores.values, part.values, strict=True)]
            scores.failures |= {i: f"{term.name}: {why}" for i, why in part.failures.items()}
        return scores

    def open(self) -> None:
        """Get the terms ready."""
        for term in self.terms:
            term.open()

    def close(self) -> None:
        """Free what the terms hold."""
        for term in self.terms:
            term.close()
