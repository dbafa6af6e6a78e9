"""Embed one SMILES by ETKDG, then MMFF94.

Worker processes call `embed_smiles`. The file imports nothing but RDKit and numpy, so that workers start fast.
"""

import math
import time
import zlib
from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

STEPS = 500  # largest number of steps of a minimisation
METHOD = f"ETKDGv3, MMFF94 or UFF in {STEPS} steps, version 1"
"""Name of the method; part of the cache key, so it changes whenever the same SMILES gets another conformer."""

TOO_LONG = "embedding took longer"
NOT_FOUND = "no conformer found"
NO_PARAMETERS = "neither MMFF94 nor UFF has parameters"

Answer = tuple[bytes, bytes, bytes]
"""Atomic numbers (n,) uint8, formal charges (n,) int8, positions (n, 3) float32 Å; hydrogens are included."""


def embed_smiles(request: tuple[str, float]) -> "Answer | str":
    """Return the conformer of a SMILES, or the reason why there is none.

    The seed is a hash of the SMILES, so that the result depends on nothing else. UFF relaxes molecules that MMFF94 has
    no parameters for.

    Args:
        request: SMILES, and the limit in seconds. RDKit checks the limit between its attempts.
    """
    smiles, seconds = request
    with rdBase.BlockLogs():
        parsed = Chem.MolFromSmiles(smiles) if smiles else None
        if parsed is None:
            return f"no SMILES: {smiles!r}"
        mol = Chem.AddHs(parsed)
        settings: Any = rdDistGeom.ETKDGv3()
        settings.randomSeed = zlib.crc32(smiles.encode()) & 0x7FFFFFFF
        limit = math.ceil(seconds)
        if hasattr(settings, "timeout"):  # older versions of RDKit have none
            settings.timeout = limit
        start = time.monotonic()
        if rdDistGeom.EmbedMolecule(mol, settings) != 0:
            return TOO_LONG if time.monotonic() - start >= limit else NOT_FOUND
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            failed = rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=STEPS) < 0
        elif rdForceFieldHelpers.UFFHasAllMoleculeParams(mol):
            failed = rdForceFieldHelpers.UFFOptimizeMolecule(mol, maxIters=STEPS) < 0
        else:
            failed = True
    if failed:
        return NO_PARAMETERS
    atoms = mol.GetAtoms()
    elements = np.array([atom.GetAtomicNum() for atom in atoms], np.uint8)
    charges = np.array([atom.GetFormalCharge() for atom in atoms], np.int8)
    positions = mol.GetConformer().GetPositions().astype("<f4")
    return (elements.tobytes(), charges.tobytes(), positions.tobytes()) if np.isfinite(positions).all() else NOT_FOUND
