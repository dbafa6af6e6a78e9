"""From molecules to the numbers that a trained predictor takes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit.Chem import Descriptors, rdFingerprintGenerator

from graft.errors import GraftError
from graft.recorded_arguments import Described


class Featuriser(Described, ABC):
    """Molecules in, one row of numbers each out."""

    @abstractmethod
    def __call__(self, mols: Sequence[Any]) -> NDArray[np.float32]:
        """(n, d) features of valid molecules whose hydrogens are no atoms."""


class MorganFeatures(Featuriser):
    """Morgan fingerprints.

    Args:
        radius: Bonds of an environment; 2 is ECFP4.
        bits: Of the fingerprint.
        counts: How often an environment occurs, not only whether it does.
    """

    def __init__(self, radius: int = 2, bits: int = 2048, counts: bool = False) -> None:
        self.radius, self.bits, self.counts = radius, bits, counts
        generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
        self._of = generator.GetCountFingerprintAsNumPy if counts else generator.GetFingerprintAsNumPy

    def __call__(self, mols: Sequence[Any]) -> NDArray[np.float32]:
        """See `Featuriser`."""
        return np.array([self._of(mol) for mol in mols], np.float32).reshape(len(mols), self.bits)


class DescriptorFeatures(Featuriser):
    """Descriptors of `rdkit.Chem.Descriptors` by their names.

    Args:
        names: In the order in which the predictor takes them.
    """

    def __init__(self, names: "list[str]") -> None:
        known = dict(Descriptors.descList)
        if unknown := [name for name in names if name not in known]:
            raise GraftError(f"RDKit has no descriptor {unknown[0]!r}: see rdkit.Chem.Descriptors.descList")
        self.names, self._of = names, [known[name] for name in names]

    def __call__(self, mols: Sequence[Any]) -> NDArray[np.float32]:
        """See `Featuriser`."""
        return np.array([[of(mol) for of in self._of] for mol in mols], np.float32).reshape(len(mols), len(self.names))
