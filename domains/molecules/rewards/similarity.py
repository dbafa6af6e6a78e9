"""Similarity to a given molecule."""

from typing import Any, Literal

from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold
from typing_extensions import override

from domains.molecules.rewards.base import Descriptor, TargetDescriptor, molecule
from graft.errors import GraftError


class Similarity(TargetDescriptor):
    """Tanimoto similarity of Morgan fingerprints to a given molecule, 0 to 1.

    Args:
        smiles: Given molecule.
        radius: Bonds of an environment; 2 is ECFP4.
        bits: Length of the fingerprint.
        counts: Compare counts of environments, instead of which occur.
        target: Target of the reward, as in `TargetDescriptor`, for similar but not equal molecules; ``null`` for the
            similarity.
        width: Width of the window around ``target``.
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

    @override
    def value(self, mol: Any) -> float:
        return float(DataStructs.TanimotoSimilarity(self._of(mol), self._given))


class Scaffold(Descriptor):
    """1 if the molecule has the scaffold of a given molecule (Bemis and Murcko, 1996), else 0.

    A scaffold is the rings and the chains between them.

    Args:
        smiles: Given molecule, with at least one ring.
        match: ``same``: the scaffolds are equal; ``contains``: the molecule contains the given scaffold.
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

    @override
    def value(self, mol: Any) -> float:
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
