"""Written files can be read, and anything can be rendered."""

import csv
import math

import numpy as np
import pytest
from rdkit import Chem, rdBase

from domains.molecules.backbone import EGNN
from domains.molecules.builder import build
from domains.molecules.chemistry import is_valid
from domains.molecules.default_process import default_process
from domains.molecules.files import render_grid, write_molecules
from domains.molecules.module import Molecules
from domains.molecules.vocabulary import EXPLICIT, HEAVY
from graft.errors import GraftError

PNG = b"\x89PNG\r\n\x1a\n"


def size(png):
    """Width and height of a PNG."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


@pytest.fixture
def mols():
    """Ethanol with a reward, one that is not valid, one in two pieces."""
    types = np.array([[3, 2, 8], [3, 3, 3], [3, 3, 8]])
    ends = [[1.53, 1.43, 0], [3, 0, 0], [9, 0, 0]]
    x = np.array([[[0, 0, 0], [1.53, 0, 0], end] for end in ends])
    found = build(types, x, np.array([3, 3, 3]), HEAVY)
    found[0].SetDoubleProp("reward", 0.5)
    return found


def test_sdf(mols, tmp_path):
    path = tmp_path / "new" / "some.SDF"
    write_molecules(mols, path)
    with rdBase.BlockLogs():
        read = list(Chem.SDMolSupplier(str(path), sanitize=False))
    assert [mol.GetPropsAsDict() for mol in read] == [
        {"SMILES": "CCO", "valid": 1, "stable": 1, "connected": 1, "reward": 0.5},
        {"valid": 0, "stable": 0, "connected": 1},
        {"valid": 0, "stable": 0, "connected": 0},
    ]
    for mol, again in zip(mols, read, strict=True):
        assert again.GetConformer().Is3D()
        np.testing.assert_allclose(again.GetConformer().GetPositions(), mol.GetConformer().GetPositions(), atol=1e-4)
    assert Chem.MolToSmiles(next(iter(Chem.SDMolSupplier(str(path))))) == "CCO"
    assert mols[0].HasProp("stable_atoms")  # the molecules themselves are as they were
    assert list(path.parent.iterdir()) == [path]


def test_smiles(mols, tmp_path):
    write_molecules(mols, tmp_path / "some.smi")
    assert (tmp_path / "some.smi").read_text() == "CCO\n"


def test_csv(mols, tmp_path):
    write_molecules(mols, tmp_path / "some.csv")
    with open(tmp_path / "some.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[0] == {"smiles": "CCO", "valid": "1", "stable": "1", "connected": "1", "reward": "0.5"}
    assert rows[1] == {"smiles": "", "valid": "0", "stable": "0", "connected": "1", "reward": ""}
    assert len(rows) == 3


def test_a_failed_reward_is_left_out(mols, tmp_path):
    model = Molecules(EGNN(num_types=10, hidden_dim=8, num_layers=1), default_process("heavy", 4))
    model.write(mols[1:], tmp_path / "some.csv", [1.5, math.nan])
    with open(tmp_path / "some.csv", newline="") as file:
        assert [row["reward"] for row in csv.DictReader(file)] == ["1.5", ""]


def test_unknown_extensions_are_refused(mols, tmp_path):
    with pytest.raises(GraftError, match=r"\.sdf, \.xyz, \.smi, \.csv"):
        write_molecules(mols, tmp_path / "some.mol2")
    assert not list(tmp_path.iterdir())


def test_the_picture_is_a_grid(mols, tmp_path):
    png = render_grid(mols, tmp_path / "some.png", columns=2, size=100)
    assert png.startswith(PNG) and size(png) == (200, 240)
    assert (tmp_path / "some.png").read_bytes() == png
    assert size(render_grid(mols, size=100)) == (300, 120)


def test_legends_and_marks_are_drawn(mols):
    plain = render_grid(mols[:1], legends=[""])
    assert render_grid(mols[:1]) != plain != render_grid(mols[:1], legends=["ethanol"])
    valid = render_grid(mols[2:])
    mols[2].SetBoolProp("connected", True)
    mols[2].SetIntProp("stable_atoms", 3)
    assert render_grid(mols[2:]) != valid


@pytest.mark.parametrize("vocabulary", [HEAVY, EXPLICIT], ids=["heavy", "explicit"])
def test_anything_is_written_and_drawn(vocabulary, tmp_path):
    rng = np.random.default_rng(0)
    types, counts = rng.integers(0, len(vocabulary), (60, 12)), rng.integers(0, 13, 60)
    counts[:6] = 2
    types[:6, :2] = vocabulary.index[6, 0 if vocabulary.explicit else 3, 0]
    found = build(types, rng.normal(size=(60, 12, 3)), counts, vocabulary)
    assert 0 < sum(map(is_valid, found)) < 60
    assert render_grid(found).startswith(PNG)
    write_molecules(found, tmp_path / "some.sdf")
    with rdBase.BlockLogs():
        assert len(list(Chem.SDMolSupplier(str(tmp_path / "some.sdf"), sanitize=False))) == 60


@pytest.mark.parametrize("suffix", ["sdf", "xyz", "csv", "smi"])
def test_aromatic_bonds_without_a_kekule_form_are_written(suffix, tmp_path):
    """A generator with an aromatic class of bonds marks chains aromatic; such a molecule is not valid."""
    mol = Chem.RWMol(Chem.MolFromSmiles("CCO"))
    bond = mol.GetBondWithIdx(0)
    bond.SetBondType(Chem.BondType.AROMATIC)
    for part in (bond, bond.GetBeginAtom(), bond.GetEndAtom()):
        part.SetIsAromatic(True)
    mol.AddConformer(Chem.Conformer(3))
    assert not is_valid(mol)
    write_molecules([mol, mol], tmp_path / f"out.{suffix}")
    assert render_grid([mol])
    if suffix == "sdf":
        with Chem.SDMolSupplier(str(tmp_path / "out.sdf"), sanitize=False) as found:
            assert [each.GetBondWithIdx(0).GetBondType() for each in found] == [Chem.BondType.AROMATIC] * 2
