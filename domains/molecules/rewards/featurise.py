"""Features of molecules for trained predictors."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit.Chem import rdFingerprintGenerator
from typing_extensions import override

from domains.molecules.rdkit_descriptors import find_descriptor
from graft.core.recorded_arguments import Described


class Featuriser(Described, ABC):
    """A function from molecules to one row of numbers each."""

    @abstractmethod
    def __call__(self, mols: Sequence[Any]) -> NDArray[np.float32]:
        """Return (n, d) features of valid molecules without explicit hydrogens."""


class MorganFeatures(Featuriser):
    """Morgan fingerprints.

    Args:
        radius: Bonds of an environment; 2 is ECFP4.
        bits: Length of the fingerprint.
        counts: Count environments, instead of marking which occur.
    """

    def __init__(self, radius: int = 2, bits: int = 2048, counts: bool = False) -> None:
        self.radius, self.bits, self.counts = radius, bits, counts
        generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
        self._of = generator.GetCountFingerprintAsNumPy if counts else generator.GetFingerprintAsNumPy

    @override
    def __call__(self, mols: Sequence[Any]) -> NDArray[np.float32]:
        return np.array([self._of(mol) for mol in mols], np.float32).reshape(len(mols), self.bits)


class DescriptorFeatures(Featuriser):
    """Descriptors of `rdkit.Chem.Descriptors` by their names.

    Args:
        names: Names in the order in which the predictor takes them.
    """

    def __init__(self, names: "list[str]") -> None:
        self.names, self._of = names, [find_descriptor(name) for name in names]

    @override
    def __call__(self, mols: Sequence[Any]) -> NDArray[np.float32]:
        return np.array([[of(mol) for of in self._of] for mol in mols], np.float32).reshape(len(mols), len(self.names))
