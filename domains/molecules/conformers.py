"""Conformers: made of SMILES, and relaxed."""

from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from domains.molecules.chemistry import is_valid

STEPS = 500  # of a minimisation


def embed_conformer(smiles: str) -> tuple[Any, str]:
    """(molecule with hydrogens and one conformer by ETKDG and MMFF94, ""), or (None, why not); always the same one."""
    with rdBase.BlockLogs():
        parsed = Chem.MolFromSmiles(smiles) if smiles else None
        if parsed is None:
            return None, f"no SMILES: {smiles!r}"
        mol = Chem.AddHs(parsed)
        if (
            rdDistGeom.EmbedMolecule(mol, randomSeed=0) != 0
            or rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=STEPS) < 0
        ):
            return None, "cannot be embedded in 3-D"
    return mol, ""


def relax_conformer(mol: Any) -> Any:
    """A copy with its conformer in the next minimum of MMFF94, hydrogens placed where they were missing.

    What is not valid, or what MMFF94 has no parameters for, is left as it is. What is known of the molecule (reward,
    stability of what was drawn) stays with it.
    """
    if not is_valid(mol):
        return mol
    with rdBase.BlockLogs():
        copy = Chem.AddHs(mol, addCoords=True)
        if rdForceFieldHelpers.MMFFOptimizeMolecule(copy, maxIters=STEPS) < 0:
            return mol
    copy.ClearProp("stable_atoms")  # counted without the hydrogens that are atoms now
    return copy
