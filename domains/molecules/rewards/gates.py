"""Conditions that a molecule must meet before a reward is asked for it at all."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

from rdkit import Chem
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams

from domains.molecules.chemistry import is_connected, is_stable, is_valid
from domains.molecules.rewards.base import pattern
from graft.copies import copied
from graft.errors import GraftError
from graft.reward import Reward, Scorer, Scores, ask, scorer

_CONDITIONS: dict[str, Callable[[Any], bool]] = {
    "stable": is_stable,
    "connected": is_connected,
    "valid": is_valid,
}


class Gate(Reward):
    """A reward of molecules that may pass, and a fixed value for all others, which are no failures.

    Args:
        reward: The reward.
        fallback: The reward of other molecules, which should be no better than any that it gives; ``null``: the worst
            it can give, 0 for QED and 10 for the SA score. LogP, energies and functions of yours have none: say it.
    """

    copies_items = True

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
    def parts(self) -> Sequence[Reward]:
        """The reward."""
        return (self.reward,)

    @property
    def worst_value(self) -> float:
        """The reward's, or what others get where that is worse or the only one known."""
        known = self.fallback if self.reward.worst_value is None else self.reward.worst_value
        return min(known, self.fallback) if self.higher_is_better else max(known, self.fallback)

    @abstractmethod
    def passes(self, item: Any) -> bool:
        """Whether a molecule goes to the reward."""

    def score(self, item: Any) -> float:
        """The reward, or what others get."""
        return self.reward.score(copied(item)) if self.passes(copied(item)) else self.fallback

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every molecule; those that pass go to the reward together."""
        chosen = [i for i, item in enumerate(items) if self.passes(copied(item))]
        inner = ask(self.reward, [items[i] for i in chosen])
        failures = {chosen[j]: why for j, why in inner.failures.items()}
        free = {chosen[j] for j in inner.free}
        scores = Scores([self.fallback] * len(items), failures, free, inner.calls)
        for i, value in zip(chosen, inner.values, strict=True):
            scores.values[i] = value
        return scores

    def setup(self) -> None:
        """Get the reward ready."""
        self.reward.setup()

    def teardown(self) -> None:
        """Free what the reward holds."""
        self.reward.teardown()


class Gated(Gate):
    """A reward of molecules that meet some conditions, and a fixed value for all others, which are no failures.

    Args:
        reward: The reward.
        require: What a molecule must be to be given to it.
        fallback: The reward of other molecules, which should be no better than any that it gives; ``null``: the worst
            it can give, 0 for QED and 10 for the SA score. LogP, energies and functions of yours have none: say it.
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

    def passes(self, item: Any) -> bool:
        """All conditions hold."""
        return all(condition(item) for condition in self._conditions)


class AlertFree(Gate):
    """A reward of molecules without alerts, and a fixed value for those with one and for those that are not valid.

    Args:
        reward: The reward.
        catalogues: RDKit's: ``PAINS`` (assay interference; Baell and Holloway, 2010), ``BRENK`` (unwanted groups; Brenk
            et al., 2008), ``NIH``, ``ZINC``, ``CHEMBL`` and their parts.
        smarts: Further patterns that must not occur.
        fallback: The reward of other molecules, which should be no better than any that it gives; ``null``: the worst
            it can give, 0 for QED and 10 for the SA score. LogP, energies and functions of yours have none: say it.
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

    def passes(self, item: Any) -> bool:
        """It is valid and has no alert."""
        return is_valid(item) and not self.alerts(item)

    def alerts(self, item: Any) -> list[str]:
        """Names of the alerts that a valid molecule has."""
        mol = Chem.RemoveHs(item)
        own = [text for text, query in zip(self.smarts, self._queries, strict=True) if mol.HasSubstructMatch(query)]
        return [entry.GetDescription() for entry in self._catalogue.GetMatches(mol)] + own
