"""Validity and stability as rewards."""

from typing import Any

from typing_extensions import override

from domains.molecules.chemistry import is_stable, is_valid
from graft.reward import Reward


class Stability(Reward):
    """1 if all atoms are stable by EDM's strict rule, else 0."""

    name = "stability"
    worst_value = 0.0

    @override
    def score(self, item: Any) -> float:
        return float(is_stable(item))


class Validity(Reward):
    """1 if RDKit sanitises the molecule, else 0."""

    name = "validity"
    worst_value = 0.0

    @override
    def score(self, item: Any) -> float:
        return float(is_valid(item))
