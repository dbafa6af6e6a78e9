"""Counts of rings and of substructures."""

from typing import Any

from typing_extensions import override

from domains.molecules.rewards.base import TargetDescriptor, pattern


class RingCount(TargetDescriptor):
    """Number of rings (of the smallest set of smallest rings).

    Args:
        size: Number of atoms of the rings that count; ``null`` for any.
        aromatic: True for aromatic rings only, False for the others only, ``null`` for both.
        target: Target of the reward, as in `TargetDescriptor`; ``null`` for the count itself.
        width: Width of the window around ``target``.
        higher_is_better: False if fewer rings are better, without a target.
    """

    min_value = 0.0

    def __init__(
        self,
        size: "int | None" = None,
        aromatic: "bool | None" = None,
        target: "float | None" = None,
        width: float = 1.0,
        higher_is_better: bool = True,
    ) -> None:
        kind = {None: "", True: "aromatic ", False: "non-aromatic "}[aromatic]
        self.name = f"{kind}rings" + (f" of {size} atoms" if size is not None else "")
        self.size, self.aromatic, self.higher_is_better = size, aromatic, higher_is_better
        super().__init__(target, width)

    @override
    def value(self, mol: Any) -> float:
        rings = [ring for ring in mol.GetRingInfo().AtomRings() if self.size in (None, len(ring))]
        aromatic = [all(mol.GetAtomWithIdx(i).GetIsAromatic() for i in ring) for ring in rings]
        return float(sum(self.aromatic in (None, is_aromatic) for is_aromatic in aromatic))


class SmartsCount(TargetDescriptor):
    """Number of distinct places in the molecule where a SMARTS pattern matches.

    Args:
        smarts: Pattern.
        target: Target of the reward, as in `TargetDescriptor`; ``null`` for the count itself.
        width: Width of the window around ``target``.
        higher_is_better: False if fewer matches are better, without a target.
    """

    min_value = 0.0

    def __init__(
        self, smarts: str, target: "float | None" = None, width: float = 1.0, higher_is_better: bool = True
    ) -> None:
        self.name, self.smarts, self.higher_is_better = f"matches of {smarts}", smarts, higher_is_better
        self._query = pattern(smarts)
        super().__init__(target, width)

    @override
    def value(self, mol: Any) -> float:
        return float(len(mol.GetSubstructMatches(self._query, uniquify=True)))
