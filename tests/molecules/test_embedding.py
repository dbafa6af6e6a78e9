"""Conformers by worker processes: deterministic, within a limit, cached, and with true reasons."""

import gzip
import os
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdForceFieldHelpers

from domains.molecules import conformers, entries, sources
from domains.molecules.conformers import Embedded, embed_all
from domains.molecules.data import MoleculeData
from domains.molecules.standardise import Standard
from domains.molecules.vocabulary import EXPLICIT
from graft.errors import GraftError

SMILES = ["CCO", "c1ccccc1", "C[C@H](N)C(=O)O", "CC[N+](=O)[O-]", "C[N+](C)(C)C"]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the embedding of molecules."""

    def fail(*args: object, **settings: object) -> None:
        raise AssertionError("it is embedded again")

    monkeypatch.setattr(conformers, "Workers", fail)


def test_conformers_are_those_of_the_molecules() -> None:
    for smiles, found in zip(SMILES, embed_all(SMILES), strict=True):
        assert isinstance(found, Embedded) and found.smiles == smiles
        mol = found.molecule()
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == smiles
        assert found.elements.tolist() == [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        assert found.charges.tolist() == [atom.GetFormalCharge() for atom in mol.GetAtoms()]
        properties = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol)
        force = rdForceFieldHelpers.MMFFGetMoleculeForceField(mol, properties).CalcGrad()
        assert np.abs(force).max() < 0.1  # a minimum of MMFF94
        Chem.AssignStereochemistryFrom3D(mol)
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == smiles


def test_a_conformer_depends_on_its_smiles_alone() -> None:
    """Order, neighbours, the number of processes and the cache do not matter."""
    first = embed_all(SMILES, workers=2, cache=False)
    again = embed_all(["CCC", *reversed(SMILES), *SMILES], workers=1)
    for found, one, other in zip(first, again[5:0:-1], again[6:], strict=True):
        assert isinstance(found, Embedded) and isinstance(one, Embedded) and isinstance(other, Embedded)
        assert np.array_equal(found.positions, one.positions) and np.array_equal(one.positions, other.positions)


def test_reasons() -> None:
    impossible = "F[C@@]12C[C@@](F)(C1)C2"  # both fluorines cannot point outwards with these centres
    found = embed_all(["C(", "", "F[Xe]F", impossible, "CB(O)O", "CCO"])
    message = ["no SMILES: 'C('", "no SMILES: ''", "neither MMFF94 nor UFF has parameters", "no conformer found"]
    assert found[:4] == message
    assert all(isinstance(each, Embedded) for each in found[4:])  # MMFF94 has no boron, UFF has
    assert embed_all([]) == []
    for settings in ({"seconds": 0}, {"workers": 0}):
        with pytest.raises(GraftError, match="embedding_"):
            embed_all(["C"], **settings)  # type: ignore[arg-type]


ODD = """
import os, time
from domains.molecules import etkdg
def embed(request):
    if request[0] == "CC":
        time.sleep(1000)
    if request[0] == "CCC":
        os._exit(3)
    return etkdg.embed_smiles(request)
"""


def test_processes_that_hang_or_crash_are_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """RDKit cannot be interrupted within a process."""
    (tmp_path / "odd_embedding.py").write_text(ODD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(conformers, "_WORK", "odd_embedding.embed")
    start = time.monotonic()
    found = embed_all(["CC", "CCC", "C", "CO", "CN"], seconds=1, workers=1)
    assert time.monotonic() - start < 30
    assert found[0] == "embedding took longer than 1 s" and "died" in str(found[1])
    assert all(isinstance(each, Embedded) for each in found[2:])
    start = time.monotonic()
    assert embed_all(["CC"], seconds=1) == found[:1] and time.monotonic() - start < 0.5  # also a limit is cached
    monkeypatch.setattr(conformers, "_WORK", "domains.molecules.etkdg.embed_smiles")
    assert isinstance(embed_all(["CC"], seconds=2)[0], Embedded)  # unless more time is given


def test_cache(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    before = embed_all([*SMILES, "C("])
    (path,) = cache.iterdir()
    with monkeypatch.context() as patch:
        no_workers(patch)
        after = embed_all(["C(", *SMILES])
        assert after[0] == before[-1]
        for one, other in zip(before, after[1:], strict=False):
            assert isinstance(one, Embedded) and isinstance(other, Embedded)
            assert np.array_equal(one.positions, other.positions)
        patch.setattr("rdkit.__version__", "2099.1")  # another version may embed otherwise
        with pytest.raises(AssertionError):
            embed_all(SMILES)
    with sqlite3.connect(path) as connection:  # a damaged answer is none
        connection.execute("UPDATE answers SET answer = x'0102030405'")
    connection.close()
    assert isinstance(embed_all(SMILES)[0], Embedded)


def test_a_cache_that_cannot_be_used(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.mkdir()
    (cache / "conformers-v1.sqlite").write_bytes(b"no database" * 100)
    assert isinstance(embed_all(["CCO"], progress=False)[0], Embedded)
    assert "cannot be used (file is not a database)" in capsys.readouterr().out
    os.unlink(cache / "conformers-v1.sqlite")
    cache.rmdir()
    cache.write_text("a file")
    assert isinstance(embed_all(["CCO"], progress=False)[0], Embedded)


def test_a_part_of_a_large_file_is_embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The limit of pre-training on a file of many SMILES."""
    smiles = [*(f"{'C' * n}{end}" for n in range(1, 8) for end in ("O", "N", "C=O")), "CCS", "nonsense"]
    with gzip.open(tmp_path / "many.smi.gz", "wt") as file:
        file.write("\n".join(smiles))
    path = str(tmp_path / "many.smi.gz")
    reading = entries.Reading(Standard(EXPLICIT, 7), max_embedded=6)
    some = sources.read_source(path, 7, reading=reading)
    assert len(some.numbers) == 6 and some.numbers == sorted(some.numbers)
    assert some.titles == [smiles[number - 1] for number in some.numbers]
    assert list(some.arrays["smiles"]) == [Chem.CanonSmiles(smiles) for smiles in some.titles]
    assert some.arrays["formal_charges"].shape == some.arrays["charges"].shape
    everything = sources.read_source(path, 7, reading=entries.Reading(Standard(EXPLICIT, 7)))
    assert len(everything.numbers) == 17 and len(everything.left_out) == 6
    chosen = [everything.numbers.index(number) for number in some.numbers]
    count = some.arrays["positions"].shape[1]
    np.testing.assert_array_equal(everything.arrays["positions"][chosen][:, :count], some.arrays["positions"])
    no_workers(monkeypatch)
    data = MoleculeData(path, max_heavy_atoms=7, convention="explicit", max_embedded=6)
    assert len(data.train_set) + len(data.val_set) == 6


def test_a_data_set_of_which_little_is_usable_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("CCO\nCCN\nCCC\nCCCCCCCCC big\nCS\nCP\nC(\n")
    with pytest.raises(GraftError) as error:
        MoleculeData(str(tmp_path / "a.smi")).setup()
    message = str(error.value)
    assert "4 of 7 records" in message and "data.max_invalid_fraction" in message and "50%" in message
    assert "1 left out: too large, of more than 7 heavy atoms (record 4: CCCCCCCCC)" in message
    assert "2 left out: with other elements than H, C, N, O, F (record 5: CS)" in message
    data = MoleculeData(str(tmp_path / "a.smi"), max_invalid_fraction=0.6)
    assert len(data.train_set) + len(data.val_set) == 3 and [number for number, _ in data.left_out] == [4, 5, 6, 7]
