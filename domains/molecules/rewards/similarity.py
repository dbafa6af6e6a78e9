"""Likeness to a given molecule."""

from typing import Any, Literal

from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold

from domains.molecules.rewards.base import Descriptor, TargetDescriptor, molecule
from graft.errors import GraftError


class Similarity(TargetDescriptor):
    """Tanimoto similarity of Morgan fingerprints to a given molecule, 0 to 1.

    Args:
        smiles: The molecule.
        radius: Bonds of an environment; 2 is ECFP4.
        bits: Of the fingerprint.
        counts: Compare how often an environment occurs, not only whether it does.
        target: Reward nearness to this similarity (to be like it, but not the same); ``null``: the similarity.
        width: Of the window around ``target``.
    """

    min_value = 0.0

    def __init__(
        self,
        smiles: str,
        radius: int = 2,
        bits: int = 2048,
        counts: bool = False,
        target: "float | None" = None,
        width: float = 0.1,
    ) -> None:
        self.name, self.smiles = f"similarity to {smiles}", smiles
        self.radius, self.bits, self.counts = radius, bits, counts
        generator = rdFingerprintGenerator.GetMorganGenerator(radius=radius, fpSize=bits)
        self._of = generator.GetCountFingerprint if counts else generator.GetFingerprint
        self._given = self._of(molecule(smiles))
        super().__init__(target, width)

    def value(self, mol: Any) -> float:
        """The similarity."""
        return float(DataStructs.TanimotoSimilarity(self._of(mol), self._given))


class Scaffold(Descriptor):
    """1 if the molecule has the scaffold of a given one (rings and what joins them; Bemis and Murcko, 1996), else 0.

    Args:
        smiles: The given molecule, which must have a ring.
        match: ``same``: its scaffold is that scaffold; ``contains``: it contains it, perhaps within a larger one.
        generic: Compare frameworks only: every atom as carbon, every bond as single.
    """

    worst_value = 0.0

    def __init__(self, smiles: str, match: Literal["same", "contains"] = "same", generic: bool = False) -> None:
        self.smiles, self.match, self.generic = smiles, match, generic
        self._scaffold = self._of(molecule(smiles))
        if self._scaffold.GetNumAtoms() == 0:
            raise GraftError(f"{smiles} has no ring and so no scaffold: use domains.molecules.rewards.SmartsCount")
        self._key = _smiles(self._scaffold)
        self.name = f"scaffold {self._key}"

    def value(self, mol: Any) -> float:
        """1 or 0."""
        if self.match == "contains":
            whole = _generic(mol) if self.generic else mol
            return float(whole.HasSubstructMatch(self._scaffold))
        return float(_smiles(self._of(mol)) == self._key)

    def _of(self, mol: Any) -> Any:
        scaffold = MurckoScaffold.GetScaffoldForMol(mol)  # type: ignore[no-untyped-call]
        return _generic(scaffold) if self.generic else scaffold


def _generic(mol: Any) -> Any:
    return MurckoScaffold.MakeScaffoldGeneric(mol)  # type: ignore[no-untyped-call]


def _smiles(mol: Any) -> str:
    return str(Chem.MolToSmiles(mol, isomericSmiles=False))
