"""Bases of rewards of molecules: a number of a valid molecule."""

import math
from abc import abstractmethod
from typing import Any

from rdkit import Chem, rdBase
from typing_extensions import override

from domains.molecules.chemistry import is_valid
from graft.core import limits
from graft.errors import GraftError
from graft.reward import Reward


class Descriptor(Reward):
    """A number that is computed from a valid molecule."""

    @abstractmethod
    def value(self, mol: Any) -> float:
        """Return the descriptor of a molecule without explicit hydrogens."""

    @override
    def score(self, item: Any) -> float:
        """Return the descriptor of the molecule.

        Raises:
            ValueError: The molecule is not valid.
        """
        if not is_valid(item):
            raise ValueError("the molecule is not valid")
        return self.value(Chem.RemoveHs(item))


class TargetDescriptor(Descriptor):
    """A descriptor as it is, or its nearness to a target.

    Args:
        target: Target of the reward exp(-((value - target) / width)² / 2); ``null`` for the value itself.
        width: Standard deviation of the bell curve around ``target``, in the unit of the value.

    Attributes:
        min_value: Smallest possible value; None if there is none.
        max_value: Largest possible value; None if there is none.
    """

    min_value: "float | None" = None
    max_value: "float | None" = None

    def __init__(self, target: "float | None" = None, width: float = 1.0) -> None:
        limits.check("target", target)
        limits.check("width", width, 0, above=True)
        self.target, self.width = target, width
        if target is not None:
            self.name, self.unit, self.higher_is_better = f"{self.name} near {target:g}", "", True

    @property
    @override
    def worst_value(self) -> "float | None":
        """Return 0 with a target, else the bound of the value on its bad side."""
        return 0.0 if self.target is not None else self.min_value if self.higher_is_better else self.max_value

    @override
    def score(self, item: Any) -> float:
        """Return the descriptor, or its nearness to the target.

        The nearness is 1 at the target and 0.61 one width away.
        """
        value = super().score(item)
        return value if self.target is None else math.exp(-(((value - self.target) / self.width) ** 2) / 2)


def pattern(smarts: str) -> Any:
    """Return a substructure query.

    Raises:
        GraftError: ``smarts`` is not a SMARTS pattern.
    """
    query = without_rdkit_logs(Chem.MolFromSmarts, smarts) if smarts else None
    if query is None:
        raise GraftError(f"{smarts!r} is not a SMARTS pattern that RDKit can read")
    return query


def molecule(smiles: str) -> Any:
    """Return a molecule from SMILES.

    Raises:
        GraftError: ``smiles`` is not the SMILES of a valid molecule.
    """
    mol = without_rdkit_logs(Chem.MolFromSmiles, smiles) if smiles else None
    if mol is None:
        raise GraftError(f"{smiles!r} is not the SMILES of a molecule that RDKit can read")
    return mol


def without_rdkit_logs(function: Any, *args: Any) -> Any:
    """Return ``function(*args)``, called without RDKit's messages."""
    with rdBase.BlockLogs():
        return function(*args)
