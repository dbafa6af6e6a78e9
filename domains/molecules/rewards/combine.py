"""Several objectives as one: desirability windows and their geometric mean."""

import math
from collections.abc import Sequence
from typing import Any

from graft.copies import copied
from graft.errors import GraftError
from graft.reward import CompositeReward, Reward, Scorer, Scores, ask, scorer


class DesirabilityWindow(Reward):
    """How desirable a reward's value is, 0 to 1: 1 within a window, falling in a straight line outside it.

    Derringer and Suich (1980), eqs. 1 and 2 with exponent 1. A value that is only to be large, or small, has one end.

    Args:
        reward: The reward.
        low: Lower end of the window; ``null``: none.
        high: Upper end of the window; ``null``: none.
        margin: Beyond an end the desirability is 0 from so far away; 0: at once.
    """

    worst_value = 0.0
    copies_items = True

    def __init__(
        self, reward: "Scorer", low: "float | None" = None, high: "float | None" = None, margin: float = 0.0
    ) -> None:
        reward = scorer(reward, "the reward of DesirabilityWindow")
        if low is None and high is None:
            raise GraftError(f"the window of {reward.name} has no end: give low, high or both")
        if margin < 0 or (low is not None and high is not None and low > high):
            raise GraftError(f"the window of {reward.name} is {low} to {high} with margin {margin}: give low <= high "
                             "and a margin of at least 0")  # fmt: skip
        self.reward, self.low, self.high, self.margin = reward, low, high, margin
        ends = " and ".join(f"{sign} {end:g}" for sign, end in (("≥", low), ("≤", high)) if end is not None)
        self.name = f"{reward.name} {ends}"

    @property
    def parts(self) -> Sequence[Reward]:
        """The reward."""
        return (self.reward,)

    def desirability(self, value: float) -> float:
        """Of a value of the reward."""
        below = self.low - value if self.low is not None else 0.0
        above = value - self.high if self.high is not None else 0.0
        outside = max(below, above, 0.0)
        if outside == 0:
            return 1.0
        return max(0.0, 1 - outside / self.margin) if self.margin else 0.0

    def score(self, item: Any) -> float:
        """The desirability of the molecule's value."""
        return self.desirability(self.reward.score(copied(item)))

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every molecule; what the reward fails on fails."""
        scores = ask(self.reward, items)
        scores.values = [value if math.isnan(value) else self.desirability(value) for value in scores.values]
        return scores

    def setup(self) -> None:
        """Get the reward ready."""
        self.reward.setup()

    def teardown(self) -> None:
        """Free what the reward holds."""
        self.reward.teardown()


class GeometricMean(CompositeReward):
    """Several objectives at once: the weighted geometric mean of desirabilities, 0 to 1 (Derringer and Suich, 1980).

    One objective that is missed altogether makes it 0, whatever the others are.

    Args:
        terms: Objectives, each 0 to 1 (`DesirabilityWindow` makes any reward one); a value outside counts as failed.
        weights: One for each; 1 if not given.
    """

    worst_value = 0.0

    def __init__(self, terms: "list[Scorer]", weights: "list[float] | None" = None) -> None:
        super().__init__(terms, weights if weights is not None else [1.0] * len(terms))
        if min(self.weights) <= 0:
            raise GraftError(f"the weights of a geometric mean are {self.weights}: they must be positive")
        if wrong := next((term for term in self.terms if not term.higher_is_better), None):
            raise GraftError(f"{wrong.name} is better when smaller: put it into a window with DesirabilityWindow")
        self.name = "desirability of " + ", ".join(term.name for term in self.terms)

    def combine(self, values: Sequence[float]) -> float:
        """The mean; NaN if a value lies outside 0 to 1."""
        if any(not 0 <= value <= 1 for value in values):
            return math.nan
        if min(values) == 0:
            return 0.0
        logs = sum(w * math.log(value) for w, value in zip(self.weights, values, strict=True))
        return math.exp(logs / sum(self.weights))

    def score(self, item: Any) -> float:
        """The mean; ValueError if a value lies outside 0 to 1."""
        return self._within(super().score(item))

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every molecule with every objective."""
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
