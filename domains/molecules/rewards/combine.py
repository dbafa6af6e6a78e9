"""Several objectives as one reward: desirability windows and their geometric mean."""

import math
from collections.abc import Sequence
from typing import Any

from typing_extensions import override

from graft.core import limits
from graft.core.copies import copied
from graft.errors import GraftError
from graft.reward import CompositeReward, Scorer, Scores, WrappedReward, score_objects, scorer


class DesirabilityWindow(WrappedReward):
    """Desirability of a reward's value, 0 to 1: 1 within a window, falling linearly outside it.

    Derringer and Suich (1980), eqs. 1 and 2 with exponent 1. A value without an upper or lower limit has a window with
    one end.

    Args:
        reward: Inner reward.
        low: Lower end of the window; ``null`` for none.
        high: Upper end of the window; ``null`` for none.
        margin: Distance from an end at which the desirability reaches 0; at 0 it drops at the end itself.
    """

    worst_value = 0.0

    def __init__(
        self, reward: "Scorer", low: "float | None" = None, high: "float | None" = None, margin: float = 0.0
    ) -> None:
        reward = scorer(reward, "the reward of DesirabilityWindow")
        if low is None and high is None:
            raise GraftError(f"the window of {reward.name} has no end: give low, high or both")
        limits.check("low", low)
        limits.check("high", high)
        limits.check("margin", margin, 0)
        if low is not None and high is not None and low > high:
            raise GraftError(f"the window of {reward.name} is {low} to {high}: give low <= high")
        self.reward, self.low, self.high, self.margin = reward, low, high, margin
        ends = " and ".join(f"{sign} {end:g}" for sign, end in (("≥", low), ("≤", high)) if end is not None)
        self.name = f"{reward.name} {ends}"

    def desirability(self, value: float) -> float:
        """Return the desirability of a value of the reward, NaN for NaN."""
        if math.isnan(value):
            return math.nan
        below = self.low - value if self.low is not None else 0.0
        above = value - self.high if self.high is not None else 0.0
        outside = max(below, above, 0.0)
        if outside == 0:
            return 1.0
        return max(0.0, 1 - outside / self.margin) if self.margin else 0.0

    @override
    def score(self, item: Any) -> float:
        return self.desirability(self.reward.score(copied(item)))

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        scores = score_objects(self.reward, items)
        scores.values = [self.desirability(value) for value in scores.values]
        return scores


class GeometricMean(CompositeReward):
    """Weighted geometric mean of desirabilities, 0 to 1 (Derringer and Suich, 1980).

    One objective with desirability 0 makes the mean 0, whatever the others are.

    Args:
        terms: Objectives, each 0 to 1 (`DesirabilityWindow` makes one of any reward); a value outside counts as failed.
        weights: Weight of each objective; 1 if not given.
    """

    worst_value = 0.0

    def __init__(self, terms: "list[Scorer]", weights: "list[float] | None" = None) -> None:
        super().__init__(terms, weights if weights is not None else [1.0] * len(terms))
        if min(self.weights) <= 0:
            raise GraftError(f"the weights of a geometric mean are {self.weights}; they must be positive")
        if wrong := next((term for term in self.terms if not term.higher_is_better), None):
            raise GraftError(f"{wrong.name} is better when smaller: put it into a window with DesirabilityWindow")
        self.name = "desirability of " + ", ".join(term.name for term in self.terms)

    @override
    def combine(self, values: Sequence[float]) -> float:
        if any(not 0 <= value <= 1 for value in values):
            return math.nan
        if min(values) == 0:
            return 0.0
        logs = sum(w * math.log(value) for w, value in zip(self.weights, values, strict=True))
        return math.exp(logs / sum(self.weights))

    @override
    def score(self, item: Any) -> float:
        return self._within(super().score(item))

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        scores = super().__call__(items)
        for i, value in enumerate(scores.values):
            if math.isnan(value):
                scores.failures.setdefault(i, _OUTSIDE)
        return scores

    def _within(self, value: float) -> float:
        if math.isnan(value):
            raise ValueError(_OUTSIDE)
        return value


_OUTSIDE = "an objective lies outside 0 to 1: put it into a window with DesirabilityWindow"
