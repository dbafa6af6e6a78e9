"""Descriptors that RDKit computes from a molecule's graph."""

from typing import Any

from rdkit.Chem.QED import qed
from rdkit.Chem.rdMolDescriptors import CalcCrippenDescriptors, CalcTPSA
from typing_extensions import override

from domains.molecules.rdkit_descriptors import find_descriptor
from domains.molecules.rewards.base import Descriptor, TargetDescriptor


class QED(Descriptor):
    """Quantitative estimate of drug-likeness, 0 to 1 (Bickerton et al., 2012)."""

    name = "QED"
    worst_value = 0.0

    @override
    def value(self, mol: Any) -> float:
        return float(qed(mol))  # type: ignore[no-untyped-call]


class LogP(TargetDescriptor):
    """Octanol-water partition coefficient by atom contributions (Wildman and Crippen, 1999).

    Args:
        target: Target of the reward exp(-((logP - target) / width)² / 2); ``null`` for logP, larger is better.
        width: Width of the window around ``target``.
    """

    name = "LogP"

    def __init__(self, target: "float | None" = None, width: float = 1.0) -> None:
        super().__init__(target, width)

    @override
    def value(self, mol: Any) -> float:
        return float(CalcCrippenDescriptors(mol)[0])


class TPSA(TargetDescriptor):
    """Topological polar surface area in Å² (Ertl et al., 2000).

    Args:
        target: Target of the reward exp(-((TPSA - target) / width)² / 2); ``null`` for the TPSA, larger is better.
        width: Width of the window around ``target``, in Å².
    """

    name = "TPSA"
    unit = "Å²"
    min_value = 0.0

    def __init__(self, target: "float | None" = None, width: float = 10.0) -> None:
        super().__init__(target, width)

    @override
    def value(self, mol: Any) -> float:
        return float(CalcTPSA(mol))


class RDKitDescriptor(TargetDescriptor):
    """Any descriptor of `rdkit.Chem.Descriptors`, such as ``MolWt`` or ``FractionCSP3``.

    Args:
        descriptor: Name of the descriptor.
        target: Target of the reward exp(-((value - target) / width)² / 2); ``null`` for the value itself.
        width: Width of the window around ``target``, in the unit of the descriptor.
        higher_is_better: False if smaller values are better, without a target.
    """

    def __init__(
        self, descriptor: str, target: "float | None" = None, width: float = 1.0, higher_is_better: bool = True
    ) -> None:
        self._of = find_descriptor(descriptor)
        self.name, self.descriptor, self.higher_is_better = descriptor, descriptor, higher_is_better
        super().__init__(target, width)

    @override
    def value(self, mol: Any) -> float:
        return float(self._of(mol))
