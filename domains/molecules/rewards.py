"""Rewards of a molecule, and one of those that meet conditions."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

from rdkit import Chem
from rdkit.Chem.QED import qed
from rdkit.Chem.rdMolDescriptors import CalcCrippenDescriptors, CalcTPSA

from domains.molecules.chemistry import is_connected, is_stable, is_valid
from graft.errors import GraftError
from graft.reward import Reward, Scores
from graft.weighted import Weighted

__all__ = ["QED", "TPSA", "Gated", "LogP", "Stability", "Validity", "Weighted"]

_CONDITIONS: dict[str, Callable[[Any], bool]] = {
    "stable": is_stable,
    "connected": is_connected,
    "valid": is_valid,
}


class Stability(Reward):
    """1 if all atoms are stable by EDM's strict rule, else 0."""

    name = "stability"

    def score(self, item: Any) -> float:
        """1 or 0."""
        return float(is_stable(item))


class Validity(Reward):
    """1 if RDKit sanitises the molecule, else 0."""

    name = "validity"

    def score(self, item: Any) -> float:
        """1 or 0."""
        return float(is_valid(item))


class _Descriptor(Reward):
    """A number that RDKit computes of a valid molecule."""

    @abstractmethod
    def value(self, mol: Any) -> float:
        """The descriptor of a molecule whose hydrogens are no atoms."""

    def score(self, item: Any) -> float:
        """The descriptor of the molecule; ValueError if it is not valid, so that it counts as failed."""
        if not is_valid(item):
            raise ValueError("the molecule is not valid")
        return self.value(Chem.RemoveHs(item))


class _Windowed(_Descriptor):
    """A descriptor that is maximised, or brought into a window around a target."""

    def __init__(self, target: "float | None" = None, width: float = 1.0) -> None:
        if width <= 0:
            raise GraftError(f"the width of the window of {self.name} is {width}: it must be positive")
        self.target, self.width = target, width
        if target is not None:
            self.name, self.unit = f"{self.name} near {target:g}", ""

    def score(self, item: Any) -> float:
        """The descriptor, or how near it is to the target (1 at the target, 0.61 one width away)."""
        value = super().score(item)
        return value if self.target is None else math.exp(-(((value - self.target) / self.width) ** 2) / 2)


class QED(_Descriptor):
    """Quantitative estimate of drug-likeness, 0 to 1 (Bickerton et al., 2012)."""

    name = "QED"

    def value(self, mol: Any) -> float:
        """The descriptor."""
        return float(qed(mol))  # type: ignore[no-untyped-call]


class LogP(_Windowed):
    """Octanol-water partition coefficient by atom contributions (Wildman and Crippen, 1999).

    Args:
        target: Reward nearness to this value, exp(-((logP - target) / width)² / 2); ``null``: the larger the better.
        width: Of the window around ``target``.
    """

    name = "LogP"

    def __init__(self, target: "float | None" = None, width: float = 1.0) -> None:
        super().__init__(target, width)

    def value(self, mol: Any) -> float:
        """The descriptor."""
        return float(CalcCrippenDescriptors(mol)[0])


class TPSA(_Windowed):
    """Topological polar surface area in Å² (Ertl et al., 2000).

    Args:
        target: Reward nearness to this value, exp(-((TPSA - target) / width)² / 2); ``null``: the larger the better.
        width: Of the window around ``target``, in Å².
    """

    name = "TPSA"
    unit = "Å²"

    def __init__(self, target: "float | None" = None, width: float = 10.0) -> None:
        super().__init__(target, width)

    def value(self, mol: Any) -> float:
        """The descriptor."""
        return float(CalcTPSA(mol))


class Gated(Reward):
    """A reward of molecules that meet some conditions, and a fixed value for all others, which are no failures.

    Args:
        reward: The reward.
        require: What a molecule must be to be given to it.
        otherwise: The reward of other molecules.
    """

    def __init__(
        self,
        reward: Reward,
        require: Sequence[Literal["stable", "connected", "valid"]] = ("stable", "connected", "valid"),
        otherwise: float = 0.0,
    ) -> None:
        self.reward, self.otherwise = reward, otherwise
        self.name = f"{reward.name} if {' and '.join(require)}" if require else reward.name
        self.unit, self.maximise = reward.unit, reward.maximise
        if unknown := set(require) - set(_CONDITIONS):
            raise GraftError(f"unknown condition {min(unknown)!r} of a molecule: give some of {', '.join(_CONDITIONS)}")
        self._conditions = [_CONDITIONS[name] for name in require]

    def score(self, item: Any) -> float:
        """The reward, or what others get."""
        return self.reward.score(item) if self._meets(item) else self.otherwise

    def __call__(self, items: Sequence[Any]) -> Scores:
        """Score every molecule; those that meet the conditions go to the reward together."""
        chosen = [i for i, item in enumerate(items) if self._meets(item)]
        inner = self.reward([items[i] for i in chosen])
        failures = {chosen[j]: why for j, why in inner.failures.items()}
        scores = Scores([self.otherwise] * len(items), failures, inner.cached)
        for i, value in zip(chosen, inner.values, strict=True):
            scores.values[i] = value
        return scores

    def _meets(self, item: Any) -> bool:
        return all(condition(item) for condition in self._conditions)

    def open(self) -> None:
        """Get the reward ready."""
        self.reward.open()

    def close(self) -> None:
        """Free what the reward holds."""
        self.reward.close()
