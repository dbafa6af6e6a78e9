"""Molecules for tests, as this domain builds them from positions."""

import numpy as np
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

from domains.molecules.builder import build
from domains.molecules.vocabulary import EXPLICIT, HEAVY


def embedded(smiles, vocabulary=HEAVY):
    """The molecule with MMFF94's geometry."""
    full = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(full, randomSeed=0) == 0
    assert rdForceFieldHelpers.MMFFOptimizeMolecule(full, maxIters=500) == 0
    atoms = [a for a in full.GetAtoms() if vocabulary is EXPLICIT or a.GetAtomicNum() > 1]
    hydrogens = [0 if vocabulary is EXPLICIT else a.GetTotalNumHs(includeNeighbors=True) for a in atoms]
    types = [vocabulary.index[a.GetAtomicNum(), h, 0] for a, h in zip(atoms, hydrogens, strict=True)]
    x = full.GetConformer().GetPositions()[[a.GetIdx() for a in atoms]]
    return build(np.array([types]), x[None], np.array([len(atoms)]), vocabulary)[0]


GOOD = embedded("CCO")
X = np.array([[[0, 0, 0], [1.5, 0, 0], [3, 0, 0]]])
BAD = build(np.array([[HEAVY.index[6, 3, 0]] * 3]), X, np.array([3]), HEAVY)[0]
RADICAL = build(np.array([[HEAVY.index[6, 2, 0]] * 3]), X, np.array([3]), HEAVY)[0]
FAR = np.array([[[0, 0, 0], [1.5, 0, 0], [9, 0, 0], [9, 1.5, 0]]])
PIECES = build(np.array([[HEAVY.index[6, 3, 0]] * 4]), FAR, np.array([4]), HEAVY)[0]
