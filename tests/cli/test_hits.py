"""The best distinct objects of a run: ranked, written, drawn, to be turned without a network."""

import csv
import json
import math
import re
from pathlib import Path

import pytest
import tried
from called import HALF, MOLECULE, QUIET, REWARD, done, run
from rdkit import Chem, rdBase

from graft.io.page import policy
from graft.report import hits


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the shipped reference, most of whose molecules are valid; the reward scores the others, too."""
    folder = tmp_path_factory.mktemp("shipped")
    few = ["--data.draws", 32, "--data.train_batch_size", 16, "--data.steps_per_round", 2, "--trainer.max_epochs", 2]
    few += ["--data.evaluation.validation_draws", 0, "--data.evaluation.test_draws", 16, "--data.source", "reference"]
    done("fit", *MOLECULE, *QUIET, *REWARD, *HALF, *few, "--run_dir", folder / "run")
    return folder / "run"


def ranked(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_run_leaves_its_hits(shipped: Path) -> None:
    rows = ranked(shipped / "hits.csv")
    rewards = [float(row["reward"]) for row in rows]
    assert rewards == sorted(rewards, reverse=True) and [int(row["rank"]) for row in rows] == [*range(1, len(rows) + 1)]
    keys = [row["key"] for row in rows]
    assert (
        all(keys)
        and len(set(keys)) == len(keys)
        and {row["origin"] for row in rows} <= {"round 1", "round 2", "samples"}
    )
    # what nothing in the run has surpassed stands first, and nothing that belongs to the list is missing
    everything = [
        (value, key)
        for path in shipped.glob("rounds/*/scores_*.json")
        for value, key in zip(*(json.loads(path.read_text())[name] for name in ("values", "keys")), strict=True)
        if value is not None
    ]
    with rdBase.BlockLogs():
        samples = list(Chem.SDMolSupplier(str(shipped / "samples/tuned.sdf"), sanitize=False))
    everything += [
        (float(mol.GetProp("reward")), mol.GetProp("SMILES") if mol.HasProp("SMILES") else "")
        for mol in samples
        if not math.isnan(float(mol.GetProp("reward")))
    ]
    invalid = sum(not key for _, key in everything)  # they are scored, and a chemist has no use for them
    assert invalid > 0
    assert f"; {invalid} scored objects are invalid and no hit.</p>" in (shipped / "report.html").read_text()
    assert rewards[0] == pytest.approx(max(value for value, key in everything if key))
    assert len(rows) == min(100, len({key for _, key in everything if key}))
    assert sum(int(row["times"]) for row in rows) <= len(everything)
    with rdBase.BlockLogs():
        mols = list(Chem.SDMolSupplier(str(shipped / "hits.sdf"), sanitize=False))
    written = [mol.GetDoubleProp("reward") for mol in mols]
    assert written == pytest.approx(rewards)


def test_the_report_shows_them(shipped: Path) -> None:
    page = (shipped / "report.html").read_text()
    assert "<h2>Hits</h2>" in page and page.count("<figure class='mol3d'>") == 8 and policy() in page
    assert page.index(policy()) < page.index("<style>")
    assert not re.search(r"<script[^>]+src|fetch\(|XMLHttpRequest|import\(", page)


@pytest.mark.parametrize("name", ["a.sdf", "a.xyz", "a.smi", "a.csv", "a.png", "a.html"])
def test_files(name: str, shipped: Path, folder: Path) -> None:
    result = done("hits", "--weights", shipped, "--trust", "-n", 5, "--out", name)
    assert re.search(rf"^5 hits in {re.escape(name)}", result.out, re.MULTILINE) and "graft: graft:" not in result.out
    assert name == "a.smi" or (folder / name).stat().st_size > 20  # a SMILES file holds the valid molecules alone
    left_out = re.findall(r"\d+ scored objects are invalid and no hit", result.out)
    assert len(left_out) == 1 and (name != "a.html" or left_out[0] in (folder / name).read_text())
    if name == "a.csv":
        assert ranked(folder / name) == ranked(shipped / "hits.csv")[:5] or ranked(folder / name)[0]["rank"] == "1"


def test_a_smiles_file_says_what_it_leaves_out(finished: Path, folder: Path) -> None:
    out = done("sample", "--weights", finished, "-n", 40, "--out", "a.smi").out
    written = len((folder / "a.smi").read_text().splitlines())
    assert f"{40 - written} of 40 molecules are not valid and have no line in the file" in out


def test_fresh_samples_join(shipped: Path, folder: Path) -> None:
    done("hits", "--weights", shipped, "--trust", "-n", 500, "--draws", 40, "--seed", 3, "--out", "a.csv")
    done("hits", "--weights", shipped, "--trust", "-n", 500, "--draws", 40, "--seed", 3, "--out", "b.csv")
    assert "samples" in {row["origin"] for row in ranked(folder / "a.csv")}
    assert (folder / "a.csv").read_text() == (folder / "b.csv").read_text()


def test_conformers_cleaned_on_request(finished: Path, folder: Path) -> None:
    for name, flags in (("rough", []), ("clean", ["--postprocess"])):
        done("sample", "--weights", finished, "-n", 12, "--out", f"{name}.sdf", *flags)
        done("hits", "--weights", finished, "--trust", "-n", 3, "--out", f"{name}_hits.sdf", *flags)
    assert (folder / "rough.sdf").read_text() != (folder / "clean.sdf").read_text()
    smiles = [re.findall(r"<SMILES>.*?\n(.*?)\n", (folder / f"{name}.sdf").read_text()) for name in ("rough", "clean")]
    assert smiles[0] == smiles[1]
    done("sample", "--weights", finished, "--trust", "-n", 4, "--best_of", 2, "--out", "best.sdf", "--postprocess")
    for file in ("rough_hits.sdf", "clean_hits.sdf", "best.sdf"):  # what is written is what was scored
        mols = list(Chem.SDMolSupplier(str(folder / file), sanitize=False, removeHs=False))
        scores = [float(mol.GetProp("reward")) for mol in mols]
        assert scores == pytest.approx([tried.spread(mol) for mol in mols], abs=1e-3)
        assert file == "best.sdf" or scores == sorted(scores, reverse=True)


def test_refusals(finished: Path, reference: Path, folder: Path) -> None:
    assert "-n is 0" in run("hits", "--weights", finished, "-n", 0, "--out", "a.sdf").message
    assert "has no reward" in run("hits", "--weights", reference, "--out", "a.sdf").message
    assert ".mol2" in run("hits", "--weights", finished, "--trust", "--out", "a.mol2").message
    assert (
        ".html" in run("hits", "--weights", finished, "--trust", "--draws", 10**9, "--out", "a.mol2").message
    )  # at once
    alone = folder / "alone"
    alone.mkdir()
    (alone / "tuned.safetensors").write_bytes((finished / "tuned.safetensors").read_bytes())
    reward = "{class_path: graft.reward.FunctionReward, init_args: {path: tried.spread, timeout: null}}"
    flags = ["--data.reward", reward, "--model.weights", reference]  # which lies in no place that the weights know
    assert "--draws" in run("hits", "--weights", alone, "--out", "a.sdf", *flags).message


def test_objects_as_the_reward_scored_them(small: list[str], folder: Path) -> None:
    """A composite reward shows the forms of its part; without such forms the flag is refused."""
    other = {"class_path": "graft.reward.FunctionReward", "init_args": {"path": "tried.spread", "timeout": None}}
    terms = [{"class_path": "tried.Grown"}, other]
    reward = {"class_path": "graft.reward.WeightedSum", "init_args": {"terms": terms, "weights": [1.0, 0.0]}}
    settings = [arg for arg in small if arg not in REWARD]
    done("fit", *settings, "--data.reward", json.dumps(reward), "--trainer.max_epochs", 1, "--run_dir", "run")
    rows = ranked(folder / "run/hits.csv")
    page = (folder / "run/report.html").read_text()
    assert page.count("<h3>As size of the grown scored them</h3>") == 1
    first = page[page.index("<h3>As size") :]
    legends = re.findall(r"<figcaption>(\d): ([\d.]+) Å</figcaption>", first)
    for rank, value in legends:
        assert float(value) == pytest.approx(float(rows[int(rank) - 1]["reward"]), rel=1e-3)
    flags = ["--weights", "run", "--trust", "-n", 64, "--out"]
    done("hits", *flags, "plain.sdf")
    out = done("hits", *flags, "grown.sdf", "--as_scored").out
    plain, kept = grown(folder / "plain.sdf", folder / "grown.sdf")
    assert 0 < len(kept) and (len(kept) == len(plain) or f"({len(plain) - len(kept)} more have no such form)" in out)
    _, kept = grown(folder / "run/hits.sdf", folder / "run/hits_as_scored.sdf", hits.IN_VIEWER)
    assert [int(rank) - 1 for rank, _ in legends] == kept


def grown(plain: Path, forms: Path, most: int = 1000) -> tuple[list[Chem.Mol], list[int]]:
    """The molecules of a file and the places of those with a form; the forms of a second file are twice as large."""
    with rdBase.BlockLogs():
        mols = list(Chem.SDMolSupplier(str(plain), sanitize=False))[:most]
        found = list(Chem.SDMolSupplier(str(forms), sanitize=False))
    kept = [i for i, mol in enumerate(mols) if mol.GetNumAtoms() != 3]
    for i, form in zip(kept, found, strict=True):
        twice = 2 * mols[i].GetConformer().GetPositions()
        assert form.GetConformer().GetPositions() == pytest.approx(twice, abs=2e-4)
        assert form.GetDoubleProp("reward") == pytest.approx(mols[i].GetDoubleProp("reward"), rel=1e-4)
    return mols, kept


def test_a_reward_without_scored_forms(finished: Path) -> None:
    args = ["hits", "--weights", finished, "--trust", "--out", "a.sdf", "--as_scored"]
    assert "has no other form of these objects. Leave out --as_scored." in run(*args).message
    assert "exclude each other" in run(*args, "--postprocess").message
