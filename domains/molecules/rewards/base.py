"""What rewards of a molecule are made of: numbers of a valid molecule, maximised or brought near a target."""

import math
from abc import abstractmethod
from typing import Any

from rdkit import Chem, rdBase

from domains.molecules.chemistry import is_valid
from graft.errors import GraftError
from graft.reward import Reward


class Descriptor(Reward):
    """A number that is computed of a valid molecule."""

    @abstractmethod
    def value(self, mol: Any) -> float:
        """The descriptor of a molecule whose hydrogens are no atoms."""

    def score(self, item: Any) -> float:
        """The descriptor of the molecule; ValueError if it is not valid, so that it counts as failed."""
        if not is_valid(item):
            raise ValueError("the molecule is not valid")
        return self.value(Chem.RemoveHs(item))


class TargetDescriptor(Descriptor):
    """A descriptor that is maximised, or brought into a window around a target.

    Args:
        target: Reward nearness to this value, exp(-((value - target) / width)² / 2); ``null``: the value itself.
        width: Of the window around ``target``, in the value's unit.

    Attributes:
        min_value: The smallest value there is, where one is known.
        max_value: The largest.
    """

    min_value: "float | None" = None
    max_value: "float | None" = None

    def __init__(self, target: "float | None" = None, width: float = 1.0) -> None:
        if width <= 0:
            raise GraftError(f"the width of the window of {self.name} is {width}: it must be positive")
        self.target, self.width = target, width
        if target is not None:
            self.name, self.unit, self.higher_is_better = f"{self.name} near {target:g}", "", True

    @property
    def worst_value(self) -> "float | None":
        """0 of a window."""
        return 0.0 if self.target is not None else self.min_value if self.higher_is_better else self.max_value

    def score(self, item: Any) -> float:
        """The descriptor, or how near it is to the target (1 at the target, 0.61 one width away)."""
        value = super().score(item)
        return value if self.target is None else math.exp(-(((value - self.target) / self.width) ** 2) / 2)


def pattern(smarts: str) -> Any:
    """A substructure query.

    Raises:
        GraftError: It is no SMARTS.
    """
    query = without_rdkit_logs(Chem.MolFromSmarts, smarts) if smarts else None
    if query is None:
        raise GraftError(f"{smarts!r} is no SMARTS pattern that RDKit can read")
    return query


def molecule(smiles: str) -> Any:
    """A given molecule.

    Raises:
        GraftError: It is no SMILES of a valid molecule.
    """
    mol = without_rdkit_logs(Chem.MolFromSmiles, smiles) if smiles else None
    if mol is None:
        raise GraftError(f"{smiles!r} is no SMILES of a molecule that RDKit can read")
    return mol


def without_rdkit_logs(function: Any, *args: Any) -> Any:
    """``function(*args)`` without RDKit's messages."""
    with rdBase.BlockLogs():
        return function(*args)
