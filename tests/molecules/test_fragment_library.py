"""Fragments of known molecules, and the library that the command writes."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest
from rdkit import Chem

from domains.molecules.fragment_library import fragments, library, main


def heavy(smiles: str) -> int:
    return int(Chem.MolFromSmiles(smiles).GetNumHeavyAtoms())


def test_the_pieces_of_a_known_molecule() -> None:
    """4-phenyl-N-benzylpiperidine: each ring, each neighbouring pair, and the whole; no cut leaves an open valence."""
    smiles = "c1ccc(C2CCN(Cc3ccccc3)CC2)cc1"
    assert fragments(smiles, 6, 12) == sorted(["c1ccccc1", "C1CCNCC1", "Cc1ccccc1", "CN1CCCCC1", "c1ccc(C2CCNCC2)cc1"])
    assert Chem.MolToSmiles(Chem.MolFromSmiles(smiles)) in fragments(smiles, 6, 30)
    assert fragments(smiles, 20, 30) == [] and fragments("no molecule") == []


@pytest.mark.parametrize("smiles", ["CC(=O)Nc1ccc(O)cc1", "CCN(CC)C(=O)c1cccnc1", "O=S(=O)(NC1CC1)c1ccc(F)cc1"])
def test_every_fragment_is_a_molecule_within_the_sizes(smiles: str) -> None:
    found = fragments(smiles, 5, 14)
    assert found
    for fragment in found:
        mol = Chem.MolFromSmiles(fragment)
        assert 5 <= heavy(fragment) <= 14 and "." not in fragment
        assert not any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
        assert not mol.HasSubstructMatch(Chem.MolFromSmarts("[CX3;!H0]=O"))


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    molecules = ["c1ccc(C2CCN(Cc3ccccc3)CC2)cc1", "CCN(CC)C(=O)c1cccnc1", "c1ccc(C2CCN(Cc3ccccc3)CC2)cc1", "nonsense"]
    with gzip.open(tmp_path / "a.smi.gz", "wt") as file:
        file.write("\n".join(molecules) + "\n")
    args = [str(tmp_path / "a.smi.gz"), str(tmp_path / "b.smi"), "--low", "6", "--high", "12", "--processes", "1"]
    main(args)
    lines = (tmp_path / "b.smi").read_text().split()
    assert set(lines) == library(molecules, 6, 12) and len(set(lines)) == len(lines) > 5
    main([*args, "--number", "3"])
    assert (tmp_path / "b.smi").read_text().split() == lines[:3]
    assert f"3 of {len(lines)} fragments" in capsys.readouterr().out


def test_a_file_without_fragments(tmp_path: Path) -> None:
    (tmp_path / "a.smi").write_text("CC\n")
    command = [sys.executable, "-m", "domains.molecules.fragment_library", "a.smi", "b.smi", "--processes", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "no molecule with fragments" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "b.smi").exists()
