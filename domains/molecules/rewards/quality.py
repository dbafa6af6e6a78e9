"""Whether a molecule is one at all."""

from typing import Any

from domains.molecules.chemistry import is_stable, is_valid
from graft.reward import Reward


class Stability(Reward):
    """1 if all atoms are stable by EDM's strict rule, else 0."""

    name = "stability"
    worst_value = 0.0

    def score(self, item: Any) -> float:
        """1 or 0."""
        return float(is_stable(item))


class Validity(Reward):
    """1 if RDKit sanitises the molecule, else 0."""

    name = "validity"
    worst_value = 0.0

    def score(self, item: Any) -> float:
        """1 or 0."""
        return float(is_valid(item))
