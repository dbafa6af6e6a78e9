"""Conditions that a molecule must meet before a reward is called for it."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

from rdkit import Chem
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams
from typing_extensions import override

from domains.molecules.chemistry import is_connected, is_stable, is_valid
from domains.molecules.rewards.base import pattern
from graft.core.copies import copied
from graft.errors import GraftError
from graft.reward import Scorer, Scores, WrappedReward, score_objects, scorer

_CONDITIONS: dict[str, Callable[[Any], bool]] = {
    "stable": is_stable,
    "connected": is_connected,
    "valid": is_valid,
}


class Gate(WrappedReward):
    """A reward of the molecules that pass a test, and a fixed value for all others.

    The others are not failures.

    Args:
        reward: Inner reward.
        fallback: Reward of the other molecules, no better than any value of the reward; ``null`` for its worst value, 0
            for QED and 10 for the SA score. LogP, energies and user functions have no worst value and need a fallback.
    """

    def __init__(self, reward: "Scorer", fallback: "float | None" = None) -> None:
        reward = scorer(reward, f"the reward of {type(self).__name__}")
        if fallback is None and (fallback := reward.worst_value) is None:
            raise GraftError(
                f"{reward.name} has no worst value that is known, for molecules that do not pass: give fallback, a "
                "value no better than any of its, or put it into a window with DesirabilityWindow"
            )
        self.reward, self.fallback = reward, fallback
        self.name, self.unit, self.higher_is_better = reward.name, reward.unit, reward.higher_is_better

    @property
    @override
    def worst_value(self) -> float:
        """Return the worst value of the reward or the fallback, the worse of both."""
        known = self.fallback if self.reward.worst_value is None else self.reward.worst_value
        return min(known, self.fallback) if self.higher_is_better else max(known, self.fallback)

    @abstractmethod
    def passes(self, item: Any) -> bool:
        """Return True if the reward is called for the molecule."""

    @override
    def score(self, item: Any) -> float:
        return self.reward.score(copied(item)) if self.passes(copied(item)) else self.fallback

    @override
    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every molecule; the reward is called once for all that pass."""
        chosen = [i for i, item in enumerate(items) if self.passes(copied(item))]
        inner = score_objects(self.reward, [items[i] for i in chosen])
        failures = {chosen[j]: why for j, why in inner.failures.items()}
        cached = {chosen[j] for j in inner.cached}
        scores = Scores([self.fallback] * len(items), failures, cached, inner.calls)
        for i, value in zip(chosen, inner.values, strict=True):
            scores.values[i] = value
        return scores


class Gated(Gate):
    """A reward of the molecules that meet some conditions, and a fixed value for all others.

    The others are not failures.

    Args:
        reward: Inner reward.
        require: Conditions that a molecule must meet.
        fallback: Reward of the other molecules, no better than any value of the reward; ``null`` for its worst value, 0
            for QED and 10 for the SA score. LogP, energies and user functions have no worst value and need a fallback.
    """

    def __init__(
        self,
        reward: "Scorer",
        require: Sequence[Literal["stable", "connected", "valid"]] = ("stable", "connected", "valid"),
        fallback: "float | None" = None,
    ) -> None:
        super().__init__(reward, fallback)
        if require:
            self.name = f"{self.reward.name} if {' and '.join(require)}"
        if unknown := set(require) - set(_CONDITIONS):
            raise GraftError(f"unknown condition {min(unknown)!r} of a molecule: give some of {', '.join(_CONDITIONS)}")
        self._conditions = [_CONDITIONS[name] for name in require]

    @override
    def passes(self, item: Any) -> bool:
        return all(condition(item) for condition in self._conditions)


class AlertFree(Gate):
    """A reward of the valid molecules without alerts, and a fixed value for all others.

    Args:
        reward: Inner reward.
        catalogues: Catalogues of RDKit: ``PAINS`` (assay interference; Baell and Holloway, 2010), ``BRENK`` (unwanted
            groups; Brenk et al., 2008), ``NIH``, ``ZINC``, ``CHEMBL`` and their parts.
        smarts: Further patterns that must not occur.
        fallback: Reward of the other molecules, no better than any value of the reward; ``null`` for its worst value, 0
            for QED and 10 for the SA score. LogP, energies and user functions have no worst value and need a fallback.
    """

    def __init__(
        self,
        reward: "Scorer",
        catalogues: Sequence[str] = ("PAINS", "BRENK"),
        smarts: Sequence[str] = (),
        fallback: "float | None" = None,
    ) -> None:
        super().__init__(reward, fallback)
        self.catalogues, self.smarts = list(catalogues), list(smarts)
        known = FilterCatalogParams.FilterCatalogs.names
        chosen = FilterCatalogParams()
        for catalogue in catalogues:
            if catalogue.upper() not in known:
                raise GraftError(f"RDKit has no catalogue of alerts {catalogue!r}: give some of {', '.join(known)}")
            chosen.AddCatalog(known[catalogue.upper()])
        self._catalogue = FilterCatalog(chosen)
        self._queries = [pattern(text) for text in smarts]
        self.name = f"{self.reward.name} if no {' or '.join([*self.catalogues, *self.smarts])} alert"

    @override
    def passes(self, item: Any) -> bool:
        return is_valid(item) and not self.alerts(item)

    def alerts(self, item: Any) -> list[str]:
        """Return the names of the alerts of a valid molecule."""
        mol = Chem.RemoveHs(item)
        own = [text for text, query in zip(self.smarts, self._queries, strict=True) if mol.HasSubstructMatch(query)]
        return [entry.GetDescription() for entry in self._catalogue.GetMatches(mol)] + own
