"""Strain of a generated conformer."""

import math
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdForceFieldHelpers
from typing_extensions import override

from domains.molecules.chemistry import is_valid
from graft.reward import Reward


class Strain(Reward):
    """Energy of the conformer above the nearest minimum of MMFF94, in kcal/mol.

    Smaller is better.

    Missing hydrogens are added and relaxed first, with the other atoms fixed, so that they do not count. A molecule
    that is not valid, that MMFF94 has no parameters for, or whose energy is not finite, counts as failed.

    Args:
        steps: Largest number of steps of a minimisation; without convergence the molecule counts as failed.
        per_atom: Divide by the number of heavy atoms.
    """

    name = "strain"
    unit = "kcal/mol"
    higher_is_better = False

    def __init__(self, steps: int = 2000, per_atom: bool = False) -> None:
        self.steps, self.per_atom = steps, per_atom
        if per_atom:
            self.name, self.unit = "strain per heavy atom", "kcal/mol"

    @override
    def score(self, item: Any) -> float:
        """Return the strain, 0 or more."""
        if not is_valid(item):
            raise ValueError("the molecule is not valid")
        with rdBase.BlockLogs():
            mol = Chem.AddHs(item, addCoords=True)
            properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
            if properties is None:
                raise ValueError("MMFF94 has no parameters for the molecule")
            placed = item.GetNumAtoms()
            if placed < mol.GetNumAtoms():
                field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
                for atom in range(placed):
                    field.AddFixedPoint(atom)
                self._minimise(field)
            field = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties)
            before = field.CalcEnergy()
            self._minimise(field)
            strain = before - field.CalcEnergy()
        if not math.isfinite(strain):
            raise ValueError(f"the strain is {strain}: atoms may coincide")
        return float(max(0.0, strain)) / (max(1, mol.GetNumHeavyAtoms()) if self.per_atom else 1)

    def _minimise(self, field: Any) -> None:
        field.Initialize()
        if field.Minimize(maxIts=self.steps) != 0:
            raise ValueError(f"the minimisation did not converge in {self.steps} steps")
