"""Conformers: embedded from SMILES, and relaxed."""

from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from domains.molecules.chemistry import is_valid

STEPS = 500  # largest number of steps of a minimisation


def embed_conformer(smiles: str) -> tuple[Any, str]:
    """Return (molecule with hydrogens and one conformer, ""), or (None, the reason).

    The conformer is that of ETKDG, relaxed by MMFF94.
    """
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
    """Return a copy with its conformer relaxed by MMFF94 and missing hydrogens added.

    A molecule that is not valid, or that MMFF94 has no parameters for, is returned as it is. The copy keeps the
    properties of the molecule (reward, validity).
    """
    if not is_valid(mol):
        return mol
    with rdBase.BlockLogs():
        copy = Chem.AddHs(mol, addCoords=True)
        if rdForceFieldHelpers.MMFFOptimizeMolecule(copy, maxIters=STEPS) < 0:
            return mol
    copy.ClearProp("stable_atoms")  # the count does not include the added hydrogens
    return copy
