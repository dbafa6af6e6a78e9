"""Descriptors that RDKit computes of a molecule's graph."""

from typing import Any

from rdkit.Chem import Descriptors
from rdkit.Chem.QED import qed
from rdkit.Chem.rdMolDescriptors import CalcCrippenDescriptors, CalcTPSA

from domains.molecules.rewards.base import Descriptor, TargetDescriptor
from graft.errors import GraftError


class QED(Descriptor):
    """Quantitative estimate of drug-likeness, 0 to 1 (Bickerton et al., 2012)."""

    name = "QED"
    worst_value = 0.0

    def value(self, mol: Any) -> float:
        """The descriptor."""
        return float(qed(mol))  # type: ignore[no-untyped-call]


class LogP(TargetDescriptor):
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


class TPSA(TargetDescriptor):
    """Topological polar surface area in Å² (Ertl et al., 2000).

    Args:
        target: Reward nearness to this value, exp(-((TPSA - target) / width)² / 2); ``null``: the larger the better.
        width: Of the window around ``target``, in Å².
    """

    name = "TPSA"
    unit = "Å²"
    min_value = 0.0

    def __init__(self, target: "float | None" = None, width: float = 10.0) -> None:
        super().__init__(target, width)

    def value(self, mol: Any) -> float:
        """The descriptor."""
        return float(CalcTPSA(mol))


class RDKitDescriptor(TargetDescriptor):
    """Any descriptor of `rdkit.Chem.Descriptors` by its name, such as ``MolWt`` or ``FractionCSP3``.

    Args:
        descriptor: The name.
        target: Reward nearness to this value, exp(-((value - target) / width)² / 2); ``null``: the value itself.
        width: Of the window around ``target``, in the descriptor's unit.
        higher_is_better: Without a target: False if smaller is better.
    """

    def __init__(
        self, descriptor: str, target: "float | None" = None, width: float = 1.0, higher_is_better: bool = True
    ) -> None:
        known = dict(Descriptors.descList)
        if descriptor not in known:
            near = sorted(name for name in known if descriptor.lower() in name.lower()) or ["MolWt", "FractionCSP3"]
            raise GraftError(f"RDKit has no descriptor {descriptor!r}: give one such as {', '.join(near[:5])}")
        self.name, self.descriptor, self.higher_is_better, self._of = (
            descriptor,
            descriptor,
            higher_is_better,
            known[descriptor],
        )
        super().__init__(target, width)

    def value(self, mol: Any) -> float:
        """The descriptor."""
        return float(self._of(mol))
