"""Fine-tuning under a fragment that is kept: the condition travels through rounds, store, report and hits."""

import json
import re
from pathlib import Path

import numpy as np
from called import QUIET, done, run
from fenced import check_schema
from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom

PAIR = ["--model.sizes", "5", "--model.resample", "2"]
LEVEL = ["--model.level", "0.25"]


def fragment(folder: Path) -> "tuple[Path, np.ndarray]":
    """Acetaldehyde's heavy atoms, somewhere."""
    mol = Chem.AddHs(Chem.MolFromSmiles("CC=O"))
    rdDistGeom.EmbedMolecule(mol, randomSeed=1)
    with Chem.SDWriter(str(folder / "core.sdf")) as writer:
        writer.write(mol)
    kept = next(iter(Chem.SDMolSupplier(str(folder / "core.sdf")))).GetConformer().GetPositions()
    return folder / "core.sdf", kept


def test_fit_under_a_fragment(folder: Path, small: list[str]) -> None:
    core, kept = fragment(folder)
    done("fit", *small, *PAIR, "--model.fragment", core, *LEVEL)
    new = Path("runs/molecule/1")
    summary = json.loads((new / "summary.json").read_text())
    assert summary["rounds"][0]["denoiser_calls"] == 64 * (7 * 2 + 1)  # every step but the last twice
    for name in ("samples/reference.sdf", "samples/tuned.sdf", "hits.sdf"):
        with rdBase.BlockLogs():
            mols = list(Chem.SDMolSupplier(str(new / name), sanitize=False))
        assert mols
        for mol in mols:
            assert mol.GetNumAtoms() == 5 and [mol.GetAtomWithIdx(i).GetSymbol() for i in range(3)] == ["C", "C", "O"]
            np.testing.assert_allclose(mol.GetConformer().GetPositions()[:3], kept, atol=1e-4)
    # draws under something else are other draws
    message = run("fit", *small, *PAIR, "--data.storage.reuse_runs", f"[{new}]", *LEVEL).message
    assert "given" in message
    done(
        "fit",
        *small,
        *PAIR,
        "--model.fragment",
        core,
        "--data.storage.reuse_runs",
        f"[{new}]",
        "--trainer.max_epochs",
        "1",
        *LEVEL,
    )
    assert json.loads(Path("runs/molecule/2/summary.json").read_text())["rounds"][0]["reused"] == 64


def test_a_fragment_that_is_too_large(folder: Path, small: list[str]) -> None:
    core, _ = fragment(folder)
    assert (
        "3 atoms, and no sample has more" in run("fit", *small, "--model.sizes", "3", "--model.fragment", core).message
    )
    assert "no file" in run("fit", *small, "--model.fragment", "none.sdf").message


def test_data_with_larger_molecules(folder: Path) -> None:
    """One sentence has the right advice."""
    (folder / "a.smi").write_text("CCO\nCCN\nCCCO\nCC=O\nCCF\nCCCCCCCCO\nCOC\n")
    args = [
        "pretrain",
        "--config",
        "domains/molecule_small_pretrain.yaml",
        "--data.source",
        "a.smi",
        "--model.steps",
        "2",
    ]
    args += ["--data.max_heavy_atoms", "20", "--trainer.max_epochs", "1", *QUIET]
    assert "molecules of 9 atoms" in (message := run(*args).message) and "--data.max_atoms 8" in message
    (folder / "a.smi").write_text((folder / "a.smi").read_text() + "C[NH3+]\nCS\nnonsense\n")
    message = done(*args, "--data.max_atoms", "8").out
    reasons = {
        "no SMILES": 1,
        "charged (set neutralise)": 1,
        "too large, of more than 8 heavy atoms": 1,
        "with other elements than H, C, N, O, F": 1,
    }
    written = max(Path("runs").glob("*/*/summary.json"))
    summary = json.loads(written.read_text())
    assert summary["invalid"] == 4 and summary["invalid_by_reason"] == reasons
    check_schema("pretrain_summary", written.parent, [{"invalid_by_reason": 4}])
    line = next(line for line in message.splitlines() if line.startswith("graft: 6 molecules from a.smi ("))
    assert all(f"{number} left out: {why}" in line for why, number in reasons.items())


def test_other_settings_of_the_model_in_sampling(finished: Path, folder: Path) -> None:
    core, kept = fragment(folder)
    given = ["--model.sizes", "{4: 1, 5: 1}", f"--model.fragment={core}", "--model.resample=1"]
    done("sample", "--weights", finished, "-n", 20, "--out", "a.sdf", *given)
    with rdBase.BlockLogs():
        mols = list(Chem.SDMolSupplier("a.sdf", sanitize=False))
    assert {mol.GetNumAtoms() for mol in mols} == {4, 5}
    assert all(np.allclose(mol.GetConformer().GetPositions()[:3], kept, atol=1e-4) for mol in mols)
    hits = ["hits", "--weights", finished, "--trust", "-n", 99, "--out", "a.csv", "--model.sizes", "3"]
    invalid = [re.findall(r"(\d+) scored object", done(*hits, "--draws", draws).out) for draws in (0, 20)]
    assert int(invalid[1][0]) > int(invalid[0][0])  # of the further draws, most of this small model are invalid
    sample = ["sample", "--weights", finished, "--out", "a.sdf"]
    assert "sizs" in run(*sample, "--model.sizs", "3").message
    assert "needs a value" in run(*sample, "--model.sizes").message
    assert "not YAML" in run(*sample, "--model.sizes", "{a").message
