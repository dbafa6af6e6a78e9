"""Features of molecules: of the graph alone, comparable, and zeros for invalid ones."""

import pytest
import torch
from rdkit import Chem, rdBase

from domains.molecules.chemistry import molecule_key
from domains.molecules.features import DESCRIPTORS, FOLDED, SIZE, molecule_features
from graft.filters.similarity import tanimoto


def mols(*smiles):
    with rdBase.BlockLogs():
        return [Chem.MolFromSmiles(text, sanitize=False) for text in smiles]


def test_equal_keys_have_equal_features():
    """For any order of the atoms, with explicit hydrogens, or with a smaller fragment."""
    same = [*mols("CCO", "OCC", "CCO.C"), Chem.AddHs(Chem.MolFromSmiles("CCO"))]
    assert {molecule_key(mol) for mol in same} == {"CCO"}
    found = molecule_features(same)
    assert found.shape == (4, SIZE) and found.dtype == torch.float32
    assert (found == found[0]).all() and found[0].any()
    assert tanimoto(found[:1], found[1:2]).item() == pytest.approx(1)


def test_counts_and_descriptors():
    """Ethanol: three atoms, three environments of one bond, one of two or more; its descriptors by name."""
    ethanol, twice = molecule_features(mols("CCO", "OCCCCCO"))
    assert ethanol[:FOLDED].sum() == 3 + 3
    assert twice[:FOLDED].max() > ethanol[:FOLDED].max()  # counts, not bits
    value = dict(zip(DESCRIPTORS, ethanol[FOLDED:].tolist(), strict=True))
    assert value["heavy_atoms"] == 3 / 4 and value["donors"] == value["acceptors"] == 1 and value["rings"] == 0
    assert value["tpsa"] == pytest.approx(20.23 / 20) and value["aromatic_atoms"] == 0
    assert value["lipophilic"] == 0 and value["hydrophilic"] == pytest.approx(0.0014, abs=1e-4)
    assert (molecule_features(mols("c1ccccc1", "CCO", "C1CC1N")) >= 0).all()


def test_more_alike_is_more_similar():
    a, b, c = molecule_features(mols("CCCO", "CCCCO", "FC#N"))[:, None]
    assert 1 > tanimoto(a, b) > tanimoto(a, c) >= 0


def test_not_valid():
    """None and a molecule without atoms are invalid."""
    assert not molecule_features(mols("CC(C)(C)(C)C", "")).any()
    assert molecule_features([]).shape == (0, SIZE)
