"""Files of chemists: read records, rejected records with their reasons, and QM9 in EDM's split."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mols import embedded
from rdkit import Chem
from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
from torch_geometric import datasets
from torch_geometric.data import Data

from domains.molecules import entries, qm9, records, scored_files, sources
from domains.molecules.builder import build
from domains.molecules.chemistry import is_stable, molecule_key
from domains.molecules.conformers import embed_all, relax_conformer
from domains.molecules.data import MoleculeData
from domains.molecules.dataset import to_graphs
from domains.molecules.files import write_molecules
from domains.molecules.standardise import Standard
from domains.molecules.vocabulary import EXPLICIT, HEAVY
from graft.errors import GraftError

QM9 = Path(__file__).parents[2].parent / "shared/data/qm9_edm_test_split/qm9_test.npz"
SMILES = ["CCO", "CC=O", "NCCO", "C1CC1", "CCF", "CCN", "COC", "CC#N"]


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path):
    """The same molecules as XYZ, SMILES, CSV and SDF."""
    mols = [embedded(smiles, EXPLICIT) for smiles in SMILES]
    for i, mol in enumerate(mols):
        mol.SetDoubleProp("reward", float(i))
    for suffix in ("sdf", "xyz", "smi", "csv"):
        write_molecules(mols, tmp_path / f"some.{suffix}")
    return tmp_path


@pytest.mark.parametrize("suffix", ["sdf", "xyz", "smi", "csv"])
@pytest.mark.parametrize("vocabulary", [HEAVY, EXPLICIT], ids=["heavy", "explicit"])
def test_what_is_written_is_read(files, suffix, vocabulary):
    arrays, left_out, *_ = sources.read_source(str(files / f"some.{suffix}"), 9)
    found, unused = to_graphs(arrays, vocabulary, 9)
    assert sorted(found.keys) == sorted(Chem.CanonSmiles(smiles) for smiles in SMILES)
    assert not left_out and not any(unused)
    data = MoleculeData(str(files / f"some.{suffix}"), convention=vocabulary.name)
    assert len(data.train_set) + len(data.val_set) == len(SMILES)


@pytest.mark.parametrize("suffix", ["sdf", "xyz", "csv"])
def test_scores_come_with_them(files, suffix):
    found = scored_files.read_scored_molecules(files / f"some.{suffix}", "reward", EXPLICIT, 10)
    assert dict(zip(found.molecules.keys, found.values, strict=True))["CCF"] == 4 and len(found.values) == 7
    ((number, why),) = found.left_out
    assert number == 3 and why.startswith("too large, of more than 10 atoms") and found.replicates == 0


def test_hydrogens_are_placed_in_xyz(tmp_path):
    write_molecules([embedded("CCO", HEAVY)], tmp_path / "a.xyz")
    text = (tmp_path / "a.xyz").read_text()
    assert text.startswith("9\nsmiles=CCO valid=1 stable=1 connected=1\n") and text.count("\nH ") == 6
    found, _ = to_graphs(sources.read_source(str(tmp_path / "a.xyz"), 9)[0], HEAVY, 9)
    assert found.keys == ["CCO"]


GOOD = "3\nenergy=-1.5 other\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"


@pytest.mark.parametrize(
    ("text", "usable", "unusable"),
    [
        (GOOD + "\n" + GOOD, 2, 0),
        (GOOD + "3\n\nO 0 0 0\nH 1 x 0\nH 0 1 0\n" + GOOD, 2, 1),
        ("nonsense\nmore\n" + GOOD, 1, 1),
        (GOOD + "9\ncut\nC 0 0 0\n", 1, 1),
        (GOOD + "1\n\nXx 0 0 0\n" + GOOD, 2, 1),
        (GOOD + "0\n\n" + GOOD, 2, 1),
        (GOOD.replace("O ", "8 ").replace("H ", "1 "), 1, 0),
        ("", 0, 0),
    ],
    ids=["frames", "no number", "no frame", "cut off", "no element", "no atom", "numbers", "empty"],
)
def test_frames_of_xyz(tmp_path, text, usable, unusable):
    (tmp_path / "some.xyz").write_text(text)
    arrays, left_out, *_ = sources.read_source(str(tmp_path / "some.xyz"), 9)
    assert len(arrays["num_atoms"]) == usable and [why for _, why in left_out] == [records.UNREADABLE] * unusable
    if usable:
        np.testing.assert_allclose(arrays["positions"][0, 1], [0.96, 0, 0])
        assert next(records.read_records(tmp_path / "some.xyz")).properties == {"energy": "-1.5"} or "nonsense" in text


def test_records_that_cannot_be_used_are_counted(tmp_path):
    salt, water = Chem.AddHs(Chem.MolFromSmiles("C[NH3+]")), Chem.AddHs(Chem.MolFromSmiles("O"))
    silane, big = Chem.AddHs(Chem.MolFromSmiles("C[SiH3]")), Chem.AddHs(Chem.MolFromSmiles("CCCCCC"))
    with Chem.SDWriter(str(tmp_path / "some.sdf")) as writer:
        for mol in (salt, silane, big, water):
            rdDistGeom.EmbedMolecule(mol, randomSeed=0)
            writer.write(mol)
        writer.write(Chem.MolFromSmiles("CCO"))
    reading = entries.Reading(Standard(EXPLICIT, 9, 10))
    arrays, left_out, *_ = sources.read_source(str(tmp_path / "some.sdf"), 9, reading=reading)
    assert [(number, why.split(" (")[0].split(",")[0]) for number, why in left_out] == [
        (1, "charged"),
        (2, "with other elements than H"),
        (3, "too large"),
        (5, f"{records.FLAT}: CCO"),
    ]
    assert to_graphs(arrays, EXPLICIT, 9, 10)[0].keys == ["O"]
    data = MoleculeData(str(tmp_path / "some.sdf"), convention="explicit", max_atoms=10)
    with pytest.raises(GraftError, match=r"4 of 5 records.*1 left out: charged"):
        data.setup()
    (tmp_path / "some.csv").write_text("id,SMILES\n1,CC\n2,C[NH3+]\n3,C(\n4,CCO\n")
    arrays, left_out, *_ = sources.read_source(str(tmp_path / "some.csv"), 9)
    assert len(arrays["num_atoms"]) == 2 and [number for number, _ in left_out] == [2, 3]
    assert left_out[0][1].startswith("charged") and left_out[1][1] == "no SMILES: C("


@pytest.mark.parametrize(
    "text",
    [
        "id,SMILES\n1,CC\n2,CO\n",
        '\ufeff"Molecule ID";"Smiles";"Value"\n"1";"CC";"5"\n"2";"CO";""\n',
        "canonical_smiles\tvalue\nCC\t1\nCO\t2\n",
        "Canonical SMILES,IsomericSMILES\nC,CC\nC,CO\n",
    ],
    ids=["commas", "semicolons", "tabs", "two columns"],
)
def test_tables_of_smiles(tmp_path, text):
    (tmp_path / "some.csv").write_text(text, encoding="utf-8")
    arrays, left_out, *_ = sources.read_source(str(tmp_path / "some.csv"), 9)
    assert to_graphs(arrays, HEAVY, 9)[0].keys == ["CC", "CO"] and not left_out


def test_an_unknown_element_is_reported_once(tmp_path, capfd):
    """RDKit prints a stack trace of its own."""
    (tmp_path / "some.xyz").write_text(GOOD + "1\n\nXx 0 0 0\n1\n\n999 0 0 0\n")
    assert sources.read_source(str(tmp_path / "some.xyz"), 9).left_out == [
        (2, records.UNREADABLE),
        (3, records.UNREADABLE),
    ]
    assert capfd.readouterr() == ("", "")


def scores(path, *rows, nodes=6):
    path.write_text("smiles,pIC50\n" + "".join(f"{smiles},{value}\n" for smiles, value in rows))
    return scored_files.read_scored_molecules(path, "pIC50", HEAVY, nodes)


def test_why_a_scored_molecule_is_left_out(tmp_path):
    """Each has its own reason: charges, pieces and sizes differ."""
    smiles = ["CS", "CCCCCCC", "CC.CC", "C[N+](=O)[O-]", "c1ccccc1", "c1cc[nH]c1", "C[NH3+]"]
    found = scores(tmp_path / "a.csv", *((each, 1) for each in smiles))
    assert found.molecules.keys == ["c1ccccc1", "c1cc[nH]c1"]
    assert dict(found.left_out) == {
        1: "with other elements than H, C, N, O, F: CS",
        2: "too large, of more than 6 heavy atoms: CCCCCCC",
        3: "a salt or mixture of 2 fragments (set largest_fragment): CC.CC",
        4: "charged, with an atom N+: C[N+](=O)[O-]",
        7: "charged (set neutralise): C[NH3+]",
    }


def test_replicates_are_averaged(tmp_path):
    """One molecule with the mean of its scores, however its SMILES is written; a stereoisomer is another one."""
    rows = [("CCO", 5), ("C[C@H](F)O", 1), ("OCC", 6), ("C(O)C", 9), ("C[C@@H](F)O", 2), ("CCO", "none"), ("CCN", 4)]
    found = scores(tmp_path / "a.csv", *rows)
    assert found.molecules.keys == ["CCO", "CC(O)F", "CC(O)F", "CCN"] and found.values == [
        pytest.approx(20 / 3),
        1,
        2,
        4,
    ]
    assert found.replicates == 2 and found.left_out == [(6, "no score: pIC50 is 'none'")]
    assert [number for number, _ in scores(tmp_path / "b.csv", ("CC.CC", 1), ("CO", 2), ("CC.CC", 3)).left_out] == [
        1,
        3,
    ]
    poses = [embedded("CCO", EXPLICIT), embedded("CCO", EXPLICIT)]
    for value, mol in enumerate(poses):
        mol.SetDoubleProp("reward", value)
    write_molecules(poses, tmp_path / "poses.sdf")
    assert scored_files.read_scored_molecules(tmp_path / "poses.sdf", "reward", HEAVY, 6).values == [0, 1]


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "a.csv").write_text("name\nCC\n")
    (tmp_path / "b.csv").write_bytes(b"smiles\n\x00\x01\n")
    (tmp_path / "c.xyz").write_bytes(b"\x89PNG\x00")
    (tmp_path / "d.smi.gz").write_bytes(b"no archive")
    (tmp_path / "e.sdf").write_bytes(b"")
    message = {"a.csv": "no column 'smiles'", "b.csv": "no text", "c.xyz": "no text", "d.smi.gz": "cannot be read"}
    for name, why in {**message, "e.sdf": "no SDF file"}.items():
        with pytest.raises(GraftError, match=why):
            sources.read_source(str(tmp_path / name), 9)


@pytest.mark.parametrize(
    "smiles", ["c1ccncc1", "NS(=O)(=O)c1ccc(Cl)cc1", "Cn1cnc2c1c(=O)[nH]c(=O)n2C", "CC#N", "OB(O)C"]
)
def test_atoms_without_bonds_get_them_before_they_are_relaxed(smiles):
    """The table of EDM would make radicals of aromatic rings, and knows no S, Cl and B."""
    whole = embed_all([smiles], cache=False, progress=False)[0].molecule()
    bare = Chem.RWMol(whole)
    for bond in list(whole.GetBonds()):
        bare.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    for atom in bare.GetAtoms():
        atom.SetNoImplicit(True)
        atom.SetNumExplicitHs(0)
        atom.SetIsAromatic(False)
    found = entries.relax_or_build_bonds(Chem.Mol(bare))
    assert (
        molecule_key(found) == molecule_key(Chem.MolFromSmiles(smiles)) and found.GetNumAtoms() == whole.GetNumAtoms()
    )


def test_relaxing_leaves_the_aromaticity_of_rdkit():
    """MMFF94 takes the six-ring of theophylline as not aromatic."""
    mol = embed_all(["Cn1cnc2c1c(=O)[nH]c(=O)n2C"], cache=False, progress=False)[0].molecule()
    relaxed = relax_conformer(mol)
    assert Chem.MolToSmiles(Chem.RemoveHs(relaxed)) == Chem.MolToSmiles(Chem.RemoveHs(mol))
    assert [bond.GetIsAromatic() for bond in relaxed.GetBonds()] == [bond.GetIsAromatic() for bond in mol.GetBonds()]


def test_conformers_cleaned_on_request(tmp_path):
    mol = embed_all(["CCO"])[0].molecule()
    x = mol.GetConformer().GetPositions()
    mol.GetConformer().SetPositions(x + 0.04 * (-1) ** np.arange(len(x))[:, None])
    bent = embedded_again(mol)
    tidy = relax_conformer(bent)
    assert energy(tidy) < energy(bent) - 1 and molecule_key(tidy) == molecule_key(bent) == "CCO" and is_stable(tidy)
    heavy = relax_conformer(embedded("CCO", HEAVY))
    assert heavy.GetNumAtoms() == 9 and is_stable(heavy)
    assert embedded_again(bent).GetConformer().GetPositions() == pytest.approx(bent.GetConformer().GetPositions())
    for suffix in ("sdf", "xyz"):
        write_molecules([bent], tmp_path / f"bent.{suffix}")
        rough = sources.read_source(str(tmp_path / f"bent.{suffix}"), 9).arrays
        clean = sources.read_source(str(tmp_path / f"bent.{suffix}"), 9, clean=True).arrays
        ends = [np.linalg.norm(a["positions"][0, 0] - a["positions"][0, 1]) for a in (rough, clean)]
        assert ends[0] == pytest.approx(np.linalg.norm(np.subtract(*bent.GetConformer().GetPositions()[:2])), abs=1e-3)
        assert ends[1] == pytest.approx(np.linalg.norm(np.subtract(*tidy.GetConformer().GetPositions()[:2])), abs=0.02)


def embedded_again(mol):
    """The molecule as the domain builds it of atoms and positions."""
    z, x = entries.atoms(mol)
    return build(np.array([[EXPLICIT.index[int(n), 0, 0] for n in z]]), x[None], np.array([len(z)]), EXPLICIT)[0]


def energy(mol):
    properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
    return rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties).CalcEnergy()


class Fake:
    """A stand-in for torch_geometric's QM9: molecule i is a carbon at x = i."""

    def __init__(self, root, count=qm9.MOLECULES):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return Data(z=torch.tensor([6]), pos=torch.tensor([[float(index), 0, 0]]))


def test_qm9_in_edms_split(monkeypatch):
    monkeypatch.setattr(datasets, "QM9", Fake)
    test = sources.read_source("qm9:test", 9)[0]["positions"][:, 0, 0]
    np.testing.assert_array_equal(test, qm9.edm_split("test"))
    assert {part: len(qm9.edm_split(part)) for part in qm9.PARTS} == {"train": 100_000, "valid": 17_748, "test": 13_083}
    everything = np.concatenate([qm9.edm_split(part) for part in qm9.PARTS])
    assert sorted(everything.tolist()) == list(range(qm9.MOLECULES))
    assert sum(qm9.SIZES.values()) == 100_000
    with pytest.raises(GraftError, match="no part 'dev'"):
        sources.read_source("qm9:dev", 9)
    monkeypatch.setattr(datasets, "QM9", lambda root: Fake(root, 5))
    with pytest.raises(GraftError, match="5 molecules where"):
        sources.read_source("qm9", 9)


@pytest.mark.skipif(not QM9.is_file(), reason="QM9's test split is not here")
def test_the_split_is_that_of_edms_files():
    """A molecule's number is 1 + its position + the rejected ones before it, so it must grow with the position."""
    with np.load(QM9) as file:
        numbers = file["index"]
    positions = qm9.edm_split("test")
    before = np.sort(numbers) - 1 - np.sort(positions)
    assert len(numbers) == len(positions) and (np.diff(before) >= 0).all() and 0 <= before.min() <= before.max() <= 3054


def test_qm9_without_a_network(monkeypatch):
    def fail(root):
        raise OSError("Network is unreachable\nmore")

    monkeypatch.setattr(datasets, "QM9", fail)
    with pytest.raises(GraftError, match=r"cannot be downloaded or read .Network is unreachable.: go online"):
        sources.read_source("qm9:train", 9)
