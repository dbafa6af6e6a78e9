"""What makes molecules alike: counts of atom environments, and a few descriptors of the whole molecule.

Counts of Morgan environments (radius 2, folded), not bits: molecules of a handful of atoms differ in how often a
fragment occurs more than in whether it does. The descriptors add what no environment of two bonds sees: size, rings,
polarity, flexibility. Each is 0 or more and of the order of one environment, so that a·b compares both, and equal keys
have equal features, whatever their conformers: what is compared is the molecular graph.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from rdkit import Chem, rdBase
from rdkit.Chem import Crippen, rdFingerprintGenerator, rdMolDescriptors
from torch import Tensor

from domains.molecules.chemistry import key

RADIUS = 2  # bonds, of an environment
FOLDED = 256  # places: about 15 distinct environments of 8 heavy atoms collide in few molecules

DESCRIPTORS: dict[str, Callable[[Any], float]] = {
    "heavy_atoms": lambda mol: mol.GetNumHeavyAtoms() / 4,
    "rings": rdMolDescriptors.CalcNumRings,
    "rotatable_bonds": rdMolDescriptors.CalcNumRotatableBonds,
    "donors": rdMolDescriptors.CalcNumHBD,
    "acceptors": rdMolDescriptors.CalcNumHBA,
    "tpsa": lambda mol: rdMolDescriptors.CalcTPSA(mol) / 20,  # Å²
    "aromatic_atoms": lambda mol: sum(atom.GetIsAromatic() for atom in mol.GetAtoms()) / 2,
    "lipophilic": lambda mol: max(0.0, Crippen.MolLogP(mol)),  # type: ignore[attr-defined]
    "hydrophilic": lambda mol: max(0.0, -Crippen.MolLogP(mol)),  # type: ignore[attr-defined]
}
"""Of the whole molecule, divided by what one unit more of it is worth."""

SIZE = FOLDED + len(DESCRIPTORS)
_MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=FOLDED)


def features(mols: Sequence[Any]) -> Tensor:
    """(n, `SIZE`) float32 features of the molecules' largest fragments; zeros where a molecule is not valid."""
    out = torch.zeros(len(mols), SIZE)
    found: dict[str, Tensor] = {"": torch.zeros(SIZE)}
    for i, mol in enumerate(mols):
        smiles = key(mol)
        if smiles not in found:
            found[smiles] = _features(smiles)
        out[i] = found[smiles]
    return out


def _features(smiles: str) -> Tensor:
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None:  # a key that RDKit writes and does not read
        return torch.zeros(SIZE)
    counts = torch.from_numpy(_MORGAN.GetCountFingerprintAsNumPy(mol).astype("float32"))
    return torch.cat([counts, torch.tensor([float(of(mol)) for of in DESCRIPTORS.values()])])
