"""Vocabularies: the types of nodes that molecules are made of."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem


@dataclass(frozen=True)
class Vocabulary:
    """The types of nodes of a convention.

    Attributes:
        name: ``heavy`` (hydrogens are part of a node's type) or ``explicit`` (hydrogens are nodes).
        kinds: (atomic number, attached hydrogens) of each type, by its index.
    """

    name: str
    kinds: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.kinds)

    @cached_property
    def elements(self) -> NDArray[np.int64]:
        """(types,) atomic number of each type."""
        return np.array([element for element, _ in self.kinds])

    @cached_property
    def hydrogens(self) -> NDArray[np.int64]:
        """(types,) number of hydrogens of each type that are not nodes."""
        return np.array([hydrogens for _, hydrogens in self.kinds])

    @cached_property
    def index(self) -> dict[tuple[int, int], int]:
        """Index of the type of each (atomic number, attached hydrogens)."""
        return {kind: i for i, kind in enumerate(self.kinds)}

    @cached_property
    def symbols(self) -> list[str]:
        """Symbol of the element of each type."""
        table = Chem.GetPeriodicTable()
        return [str(table.GetElementSymbol(z)) for z, _ in self.kinds]

    @cached_property
    def names(self) -> list[str]:
        """Name of each type, such as ``CH3``."""
        table = Chem.GetPeriodicTable()
        return [table.GetElementSymbol(z) + ("", "H", "H2", "H3")[h] for z, h in self.kinds]


HEAVY = Vocabulary("heavy", tuple((z, h) for z, most in ((6, 3), (7, 2), (8, 1), (9, 0)) for h in range(most + 1)))
"""A node is a heavy atom, typed by its element and number of hydrogens: C CH CH2 CH3 N NH NH2 O OH F."""
EXPLICIT = Vocabulary("explicit", tuple((z, 0) for z in (1, 6, 7, 8, 9)))
"""A node is an atom, hydrogens included, in EDM's order: H C N O F."""
VOCABULARIES = {vocabulary.name: vocabulary for vocabulary in (HEAVY, EXPLICIT)}
