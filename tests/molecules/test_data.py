"""The enumerated molecules, the files that are read, and the batches made of them."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from rdkit import Chem
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader

from domains.molecules import sources
from domains.molecules.builder import build
from domains.molecules.chemistry import is_stable, molecule_key
from domains.molecules.data import MoleculeData
from domains.molecules.dataset import OTHER, UNSTABLE, to_graphs
from domains.molecules.enumeration import embed_enumerated, enumerate_molecules
from domains.molecules.files import write_molecules
from domains.molecules.vocabulary import EXPLICIT, HEAVY
from graft.errors import GraftError
from graft.io.atomic import write_with

QM9 = Path(__file__).parents[2].parent / "shared/data/qm9_edm_test_split/qm9_test.npz"
needs_qm9 = pytest.mark.skipif(not QM9.is_file(), reason="QM9's test split is not here")


enumerated = functools.cache(enumerate_molecules)


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRAFT_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def small():
    """The arrays of the molecules with up to 4 heavy atoms."""
    return embed_enumerated(enumerate_molecules(4), progress=False)


@pytest.mark.parametrize("setting", ["max_heavy_atoms", "max_embedded", "max_atoms", "batch_size"])
def test_settings_out_of_their_ranges(setting):
    with pytest.raises(GraftError, match=f"data.{setting} is 0"):
        MoleculeData(**{setting: 0})


def test_enumerated_molecules_are_distinct_canonical_and_stable():
    found = enumerate_molecules(5)
    assert len(set(found)) == len(found) > 400
    mols = [Chem.MolFromSmiles(smiles) for smiles in found]
    assert [Chem.MolToSmiles(mol) for mol in mols] == found
    assert all(map(is_stable, mols))
    assert max(mol.GetNumHeavyAtoms() for mol in mols) == 5
    assert enumerate_molecules(5) == found


@pytest.mark.parametrize(
    "smiles", "C CC C=O C#N CCO C1CC1 CC(N)=O CC(=O)O C1CCC1 C#CC#C COC=O CC=NO CC#N CNC=O".split()
)
def test_ordinary_molecules_are_enumerated(smiles):
    assert Chem.CanonSmiles(smiles) in enumerated(4)


@pytest.mark.slow
def test_rings_and_aromatic_molecules_are_enumerated():
    assert {"c1cc[nH]c1", "C1CCCC1", "N#CC1CC1", "CC1CO1", "c1ccoc1"} <= set(enumerated(5))
    assert "c1ccccc1" in enumerate_molecules(6)


@pytest.mark.parametrize(
    "smiles", "OO C=C=C C1=CC1 C1#CC1 OCO NCO C=CO C1=CCC1 O=C=O NNN C1C2CC12 CON=O FO C1C#CCC1 C1=C2CC1C2".split()
)
def test_strange_molecules_are_not_enumerated(smiles):
    assert Chem.CanonSmiles(smiles) not in enumerated(5)


def test_embedding_is_deterministic_and_centred(small):
    again = embed_enumerated(small["smiles"], progress=False)
    assert all(np.array_equal(small[name], again[name]) for name in small)
    assert np.abs(small["positions"].sum(1)).max() < 1e-4
    assert not small["positions"][small["charges"] == 0].any()


def test_both_conventions_find_the_molecules_that_were_meant(small):
    light, left_out = to_graphs(small, HEAVY, 4)
    assert left_out.count(UNSTABLE) <= 0.1 * len(small["smiles"])
    full, _ = to_graphs(small, EXPLICIT, 4)
    assert set(light.keys) <= set(small["smiles"])
    assert len(light) >= 0.95 * len(small["smiles"])
    assert len(full) == len(small["smiles"])
    agree = np.mean([key == smiles for key, smiles in zip(full.keys, small["smiles"], strict=True)])
    assert agree > 0.9  # some molecules of the table of EDM are radicals


def test_explicit_graphs_keep_hydrogens_and_heavy_ones_count_them(small):
    light, _ = to_graphs(small, HEAVY, 4)
    full, _ = to_graphs(small, EXPLICIT, 4)
    for smiles in ("CCO", "C#CC#N", "CC(N)=O"):
        with_hydrogens = Chem.AddHs(Chem.MolFromSmiles(smiles))
        kinds = sorted(HEAVY.kinds[t] for t in light[light.keys.index(smiles)].type)
        assert kinds == sorted((a.GetAtomicNum(), a.GetTotalNumHs(), 0) for a in Chem.MolFromSmiles(smiles).GetAtoms())
        elements = sorted(EXPLICIT.elements[full[full.keys.index(smiles)].type])
        assert elements == sorted(a.GetAtomicNum() for a in with_hydrogens.GetAtoms())


def test_a_hydrogen_that_belongs_to_nothing_and_unknown_elements_leave_a_molecule_out():
    methanol = {
        "num_atoms": np.array([6, 6, 6]),
        "charges": np.array([[6, 8, 1, 1, 1, 1], [6, 8, 1, 1, 1, 1], [6, 16, 1, 1, 1, 1]]),
        "positions": np.tile(
            [[0, 0, 0], [1.42, 0, 0], [-0.36, 1.03, 0], [-0.36, -0.51, 0.89], [-0.36, -0.51, -0.89], [1.72, 0.91, 0]],
            (3, 1, 1),
        ),
    }
    methanol["positions"][1, 5] += 1
    kept, left_out = to_graphs(methanol, HEAVY, 9)
    assert kept.keys == ["CO"]
    assert left_out == ["", UNSTABLE, OTHER]


def test_the_split_is_deterministic_and_complete():
    first, second = MoleculeData(max_heavy_atoms=4, seed=1), MoleculeData(max_heavy_atoms=4, seed=1)
    assert first.keys() == second.keys() != MoleculeData(max_heavy_atoms=4, seed=2).keys()
    held_out = [first.val_set[i].smiles for i in range(len(first.val_set))]
    assert held_out and not set(held_out) & set(first.keys())
    assert sum(first.histogram().values()) == len(first.keys()) == len(first.train_set)
    assert set(first.histogram()) <= {2, 3, 4}
    assert len(MoleculeData(max_heavy_atoms=4, limit=20).train_set) == 19


def test_the_cache_is_used(monkeypatch, cache):
    MoleculeData(max_heavy_atoms=3).prepare_data()
    assert (cache / f"enumerated-3-v{sources._VERSION}.npz").is_file()
    monkeypatch.setattr(sources, "embed_enumerated", None)
    MoleculeData(max_heavy_atoms=3).setup()


def test_cache_folders(monkeypatch, tmp_path):
    monkeypatch.delenv("GRAFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sources.cache_folder() == tmp_path / "graft"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert sources.cache_folder() == Path.home() / ".cache/graft"


def test_batches_are_those_of_torch_geometric():
    data = MoleculeData(max_heavy_atoms=4, batch_size=10)
    ours = data.train_set.batch([3, 1, 2])
    theirs = Batch.from_data_list([data.train_set[i] for i in (3, 1, 2)])
    assert ours.num_graphs == theirs.num_graphs == 3 and ours.smiles == theirs.smiles
    for name in ("pos", "type", "batch", "ptr"):
        assert torch.equal(ours[name], theirs[name])
    assert [graph.smiles for graph in ours.to_data_list()] == ours.smiles
    assert torch.equal(ours[1].pos, data.train_set[1].pos)

    seen = [batch for batch in data.train_dataloader()]
    assert sorted(smiles for batch in seen for smiles in batch.smiles) == sorted(data.keys())
    assert seen[0].num_graphs == 10 and seen[0].pos.dtype == torch.float32
    assert [smiles for batch in data.train_dataloader() for smiles in batch.smiles] != data.keys()  # shuffled
    assert sum(batch.num_graphs for batch in data.val_dataloader()) == len(data.val_set)
    assert sum(batch.num_graphs for batch in DataLoader(data.train_set, 10)) == len(data.train_set)


def test_every_molecule_has_zero_centre_of_mass():
    for convention in ("heavy", "explicit"):
        batch = MoleculeData(max_heavy_atoms=4, convention=convention).train_set.batch([0, 5, 9])
        centres = torch.zeros(3, 3).index_add(0, batch.batch, batch.pos)
        assert centres.abs().max() < 1e-5


@needs_qm9
def test_qm9():
    light = MoleculeData(str(QM9), max_heavy_atoms=9)
    light.setup()
    assert [why for _, why in light.left_out] == [UNSTABLE] * 225
    assert len(light.train_set) + len(light.val_set) == 13_083 - 225
    assert len(set(light.keys())) == len(light.keys())
    full = MoleculeData(str(QM9), max_heavy_atoms=9, convention="explicit")
    assert len(full.train_set) + len(full.val_set) == 13_083
    assert max(full.histogram()) == 29


def test_sdf_files_are_read_back(tmp_path, small):
    light, _ = to_graphs(small, HEAVY, 4)
    batch = light.batch(list(range(30)))
    counts = light.counts[:30]
    types = torch.zeros(30, 4, dtype=torch.long)
    positions = torch.zeros(30, 4, 3)
    inside = torch.arange(4) < counts[:, None]
    types[inside], positions[inside] = batch.type, batch.pos
    mols = build(types.numpy(), positions.numpy(), counts.numpy(), HEAVY)
    write_molecules(mols, tmp_path / "some.sdf")
    arrays, left_out, *_ = sources.read_source(str(tmp_path / "some.sdf"), 9)
    again, _ = to_graphs(arrays, HEAVY, 9)
    assert again.keys == [molecule_key(mol) for mol in mols] and not left_out


def test_bad_records_of_an_sdf_are_counted(tmp_path):
    flat = Chem.MolToMolBlock(Chem.MolFromSmiles("CCO"))
    path = tmp_path / "bad.sdf"
    path.write_text(f"{flat}$$$$\nnonsense\nmore\n\nnot a count line\n$$$$\n")
    arrays, left_out, *_ = sources.read_source(str(path), 9)
    assert (
        left_out == [(1, "without a 3-D structure: CCO"), (2, "unparseable: nonsense")]
        and len(arrays["num_atoms"]) == 0
    )
    with pytest.raises(GraftError, match="2 of 2 records"):
        MoleculeData(str(path)).setup()


def test_what_cannot_be_read_is_one_clear_error(tmp_path):
    (tmp_path / "broken.npz").write_text("no archive")
    np.savez(tmp_path / "other.npz", num_atoms=np.zeros(1))
    np.savez(tmp_path / "pickled.npz", num_atoms=np.array([object()]))
    for source, message in {
        "somewhere": "unknown source",
        str(tmp_path / "missing.sdf"): "no file",
        str(tmp_path / "broken.npz"): "not a .npz file",
        str(tmp_path / "other.npz"): "no array 'charges'",
        str(tmp_path / "pickled.npz"): "not a .npz file that can be read without pickle",
    }.items():
        with pytest.raises(GraftError, match=message):
            MoleculeData(source).setup()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("before")

    def fail(temporary):
        Path(temporary).write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_with(path, fail)
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


def test_a_limit_of_molecules_stored_by_size(small, tmp_path):
    """A random part is taken: small molecules come first in the file, and there are several sizes in either part."""
    order = np.argsort(small["num_atoms"], kind="stable")
    np.savez(tmp_path / "a.npz", **{name: small[name][order] for name in ("num_atoms", "charges", "positions")})
    data = MoleculeData(str(tmp_path / "a.npz"), limit=30, val_fraction=0.5)
    for part in (data.train_set, data.val_set):
        counts = part.counts[torch.as_tensor(part.indices())]
        assert len(counts) == 15 and counts.max() == 4 and counts.min() < 4
