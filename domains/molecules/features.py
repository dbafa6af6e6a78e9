"""Features of molecules for similarity: atom environments and descriptors.

They are counts of Morgan environments (radius 2, folded) instead of bits, since small molecules differ more in how
often a fragment occurs than in whether it occurs. The descriptors add size, rings, polarity and flexibility, which no
environment of two bonds shows. Each descriptor is at least 0 and of the size of one environment, so that a·b weighs
both alike. Equal keys have equal features whatever their conformers, since features depend on the molecular graph
alone.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from rdkit import Chem, rdBase
from rdkit.Chem import Crippen, rdFingerprintGenerator, rdMolDescriptors
from torch import Tensor

from domains.molecules.chemistry import molecule_key

RADIUS = 2  # bonds of an environment
FOLDED = 256  # places; the about 15 environments of 8 heavy atoms rarely collide

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
"""Descriptors of the whole molecule, scaled so that one unit counts as much as one environment."""

SIZE = FOLDED + len(DESCRIPTORS)
_MORGAN = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=FOLDED)


def molecule_features(mols: Sequence[Any]) -> Tensor:
    """Return (n, `SIZE`) float32 features; zeros for an invalid molecule.

    They are features of the largest fragment.
    """
    out = torch.zeros(len(mols), SIZE)
    found: dict[str, Tensor] = {"": torch.zeros(SIZE)}
    for i, mol in enumerate(mols):
        smiles = molecule_key(mol)
        if smiles not in found:
            found[smiles] = _features(smiles)
        out[i] = found[smiles]
    return out


def _features(smiles: str) -> Tensor:
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None:  # RDKit writes some keys that it cannot read
        return torch.zeros(SIZE)
    counts = torch.from_numpy(_MORGAN.GetCountFingerprintAsNumPy(mol).astype("float32"))
    return torch.cat([counts, torch.tensor([float(of(mol)) for of in DESCRIPTORS.values()])])
