"""Vocabularies: the types of nodes that molecules are made of."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from graft.errors import GraftError

Convention: TypeAlias = Literal["heavy", "drug_like", "explicit"] | list[str]
"""Name of a vocabulary, or a list of types of heavy atoms."""

VALENCES: dict[tuple[int, int], tuple[int, ...]] = {
    (1, 0): (1,),
    (5, 0): (3,), (5, -1): (4,),
    (6, 0): (4,), (6, 1): (3,), (6, -1): (3,),
    (7, 0): (3,), (7, 1): (4,), (7, -1): (2,),
    (8, 0): (2,), (8, 1): (3,), (8, -1): (1,),
    (9, 0): (1,),
    (15, 0): (3, 5), (15, 1): (4,),
    (16, 0): (2, 4, 6), (16, 1): (3, 5), (16, -1): (1,),
    (17, 0): (1,), (35, 0): (1,), (53, 0): (1,),
}  # fmt: skip
"""Sums of the bond orders of an atom without unpaired electrons, by atomic number and formal charge."""


class NodeType(NamedTuple):
    """Type of a node.

    Attributes:
        element: Atomic number.
        hydrogens: Number of attached hydrogens that are not nodes.
        charge: Formal charge.
    """

    element: int
    hydrogens: int = 0
    charge: int = 0

    def __str__(self) -> str:
        """Return a name such as ``CH3``, ``N+`` or ``NH3+``."""
        hydrogens = "H" * (self.hydrogens > 0) + (str(self.hydrogens) if self.hydrogens > 1 else "")
        charge = ("+" if self.charge > 0 else "-") * (self.charge != 0)
        number = str(abs(self.charge)) if abs(self.charge) > 1 else ""
        return Chem.GetPeriodicTable().GetElementSymbol(self.element) + hydrogens + charge + number

    @classmethod
    def of(cls, atom: Any) -> "NodeType":
        """Return the type of a heavy atom of a molecule, whose hydrogens may be implicit or atoms."""
        return cls(atom.GetAtomicNum(), atom.GetTotalNumHs(includeNeighbors=True), atom.GetFormalCharge())

    @classmethod
    def parse(cls, name: str) -> "NodeType":
        """Return the type with a name as `str` gives it.

        Raises:
            GraftError: The name is no such name, or the valences of the atom are not in `VALENCES`.
        """
        found = re.fullmatch(r"([A-GI-Z][a-z]?|H(?=$))(?:H(\d?))?(?:([+-])(\d?))?", name)
        symbols = {Chem.GetPeriodicTable().GetElementSymbol(z): z for z in {z for z, _ in VALENCES}}
        if found is None or found[1] not in symbols:
            raise GraftError(
                f"{name!r} is no type of a node: give an element of {', '.join(symbols)} with its hydrogens and "
                "charge, such as CH3, NH2, N+ or O-"
            )
        hydrogens = int(found[2] or 1) if found[2] is not None else 0
        charge = (1 if found[3] == "+" else -1) * int(found[4] or 1) if found[3] else 0
        kind = cls(symbols[found[1]], hydrogens, charge)
        if kind.hydrogens > max(VALENCES.get(kind[::2], (-1,))):
            raise GraftError(f"{name!r} is no type of a node: no stable atom has these hydrogens and this charge")
        return kind


@dataclass(frozen=True)
class Vocabulary:
    """The types of nodes of a convention.

    Attributes:
        name: ``heavy``, ``drug_like``, ``explicit``, or ``custom`` for a list of types.
        kinds: Each type, by its index.
        explicit: True if hydrogens are nodes and bonds follow the distance table of EDM (`edm_bonds`); False if
            hydrogens are part of the types and bonds follow the valences (`valence_bonds`).
    """

    name: str
    kinds: tuple[NodeType, ...]
    explicit: bool = False

    def __len__(self) -> int:
        return len(self.kinds)

    @cached_property
    def elements(self) -> NDArray[np.int64]:
        """(types,) atomic number of each type."""
        return np.array([kind.element for kind in self.kinds])

    @cached_property
    def hydrogens(self) -> NDArray[np.int64]:
        """(types,) number of hydrogens of each type that are not nodes."""
        return np.array([kind.hydrogens for kind in self.kinds])

    @cached_property
    def index(self) -> dict[NodeType, int]:
        """Index of each type."""
        return {kind: i for i, kind in enumerate(self.kinds)}

    @cached_property
    def symbols(self) -> list[str]:
        """Symbol of the element of each type."""
        table = Chem.GetPeriodicTable()
        return [str(table.GetElementSymbol(kind.element)) for kind in self.kinds]

    @cached_property
    def names(self) -> list[str]:
        """Name of each type, such as ``CH3``."""
        return [str(kind) for kind in self.kinds]

    @cached_property
    def valences(self) -> tuple[tuple[int, ...], ...]:
        """Possible sums of the bond orders between nodes, of each type, in ascending order."""
        return tuple(
            tuple(v - kind.hydrogens for v in VALENCES[kind[::2]] if v >= kind.hydrogens) for kind in self.kinds
        )


def _kinds(names: str) -> tuple[NodeType, ...]:
    return tuple(NodeType.parse(name) for name in names.split())


HEAVY = Vocabulary("heavy", _kinds("C CH CH2 CH3 N NH NH2 O OH F"))
"""A node is a neutral heavy atom of C, N, O or F, typed by its element and number of hydrogens."""
DRUG_LIKE = Vocabulary(
    "drug_like",
    _kinds(
        "C CH CH2 CH3 N NH NH2 O OH F S SH Cl Br I P PH B BH BH2 PH2 "
        "N+ NH+ NH2+ NH3+ O- S- N- S+ P+ C- B- O+ NH- BH- PH+"
    ),
)
"""A node is a heavy atom of drug-like molecules, typed by element, number of hydrogens and formal charge."""
EXPLICIT = Vocabulary("explicit", _kinds("H C N O F"), explicit=True)
"""A node is an atom, hydrogens included, in EDM's order."""
ATOMS = Vocabulary("atoms", _kinds("H B C N O F P S Cl Br I"))
"""A node is a neutral atom, hydrogens included, and bonds follow the valences: for files without bonds."""
VOCABULARIES = {vocabulary.name: vocabulary for vocabulary in (HEAVY, DRUG_LIKE, EXPLICIT)}


def find_vocabulary(convention: "str | Sequence[str]") -> Vocabulary:
    """Return a vocabulary by its name, or that of a list of types of heavy atoms.

    Raises:
        GraftError: The name is unknown, or a type is no type of a heavy atom.
    """
    if isinstance(convention, str):
        if convention not in VOCABULARIES:
            raise GraftError(
                f"the convention is {convention!r}: it must be {', '.join(VOCABULARIES)}, or a list of types of nodes"
            )
        return VOCABULARIES[convention]
    kinds = tuple(map(NodeType.parse, convention))
    if not kinds or len(set(kinds)) < len(kinds) or any(kind.element == 1 for kind in kinds):
        raise GraftError(
            f"the convention is {list(convention)}: it must list types of heavy atoms, each once, such as C, CH3 and O-"
        )
    return Vocabulary("custom", kinds)
