"""Quantum chemistry by xTB."""

import importlib.util
from typing import Any, Literal

import numpy as np
from rdkit import Chem
from typing_extensions import override

from domains.molecules.chemistry import is_valid
from domains.molecules.conformers import relax_conformer
from graft.errors import GraftError
from graft.reward import Reward

BOHR = 0.529177210903  # Å
HARTREE = 27.211386245988  # eV
DEBYE = 2.541746473  # D of an atomic unit of the dipole moment

UNITS = {"gap": "eV", "dipole": "D"}


class XTB(Reward):
    """A property of the conformer by the tight-binding method xTB (Bannwarth, Ehlert, Grimme 2019).

    The package tblite computes it in this process, in a fraction of a second for a drug-like molecule. Missing
    hydrogens are added. A molecule that is not valid, or whose charges do not converge, counts as failed.

    Args:
        quantity: ``gap``, the difference of the energies of the lowest empty and the highest full orbital in eV, or
            ``dipole``, the length of the dipole moment in D.
        method: ``GFN2-xTB`` or ``GFN1-xTB``.
        relax: Relax the molecule by MMFF94 first. A molecule that MMFF94 has no parameters for stays as it is.
        higher_is_better: False if a smaller value is better.
    """

    def __init__(
        self,
        quantity: Literal["gap", "dipole"] = "gap",
        method: Literal["GFN2-xTB", "GFN1-xTB"] = "GFN2-xTB",
        relax: bool = True,
        higher_is_better: bool = True,
    ) -> None:
        if quantity not in UNITS:
            raise GraftError(f"quantity of XTB is {quantity!r}; it must be one of {', '.join(UNITS)}")
        self.quantity, self.method, self.relax, self.higher_is_better = quantity, method, relax, higher_is_better
        self.name, self.unit = f"{method} {quantity}", UNITS[quantity]

    @override
    def setup(self) -> None:
        """Raise GraftError if the package is missing."""
        if importlib.util.find_spec("tblite") is None:
            raise GraftError(
                "the package 'tblite', which computes xTB, is missing. Call pip install 'graft-diffusion[xtb]'."
            )

    @override
    def score(self, item: Any) -> float:
        """Return the property.

        Raises:
            ValueError: The molecule is not valid, or xTB does not converge.
        """
        from tblite.interface import Calculator  # imported here, because it is an extra

        if not is_valid(item):
            raise ValueError("the molecule is not valid")
        full = Chem.AddHs(relax_conformer(item) if self.relax else item, addCoords=True)
        numbers = np.array([atom.GetAtomicNum() for atom in full.GetAtoms()])
        positions = full.GetConformer().GetPositions() / BOHR
        calculator = Calculator(self.method, numbers, positions, charge=float(Chem.GetFormalCharge(full)))
        calculator.set("verbosity", 0)
        try:
            result = calculator.singlepoint()
        except RuntimeError as error:
            raise ValueError(f"xTB does not converge: {error}") from None
        if self.quantity == "dipole":
            return float(np.linalg.norm(result.get("dipole"))) * DEBYE
        energies, full_orbitals = result.get("orbital-energies"), result.get("orbital-occupations") > 1
        return float(energies[~full_orbitals].min() - energies[full_orbitals].max()) * HARTREE
