"""Fine-tuning on a set that is scored already, without sampling."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from called import REWARD, done, run

NEW = "runs/molecule/1"
TABLE = [
    ("CCO", "1.5"),
    ("CCN", "0.25"),
    ("CCC", "2"),
    ("CC=O", ""),
    ("C1CC1", "-1"),
    ("nonsense", "3"),
    ("CO", "high"),
]
TABLE += [
    ("COC", "0.5"),
    ("CCCCCCCCCCCC", "9"),
    ("C#N", "0"),
    ("CCF", "nan"),
    ("NC=O", "1"),
    ("[Si]", "4"),
    ("OCCO", "2.5"),
]
FILE = ["--data.source.path", "assay.csv", "--data.source.score_column", "pIC50"]


@pytest.fixture(autouse=True)
def assay(folder: Path) -> None:
    with open("assay.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("SMILES", "pIC50"))
        rows.writerows(TABLE)


def test_assay_table(small: list[str]) -> None:
    """Nothing is sampled or scored in the rounds; unusable records are counted."""
    with open("assay.csv", "a") as file:
        file.write("OCC,2.5\n")  # a replicate of the first
    message = done("fit", *small, *FILE).out
    summary = json.loads(Path(NEW, "summary.json").read_text())
    for account in summary["rounds"]:
        assert account["draws"] == 8 and account["accepted"] == 4 and account["source"] == "assay.csv"
        assert account["denoiser_calls"] == account["reward_calls"] == 0 and account["kl_nats"] is None
        assert account["failures"] == {} and account["invalid_records"] == 6
    # Samples are judged by the reward, which is not what the file holds: no gain is a share of the accepted one.
    assert summary["reward"]["name"] == "spread" and summary["gain"]["of_accepted"] is None
    assert "accepted pIC50 of the file" in message and "share of the accepted gain" not in message
    assert "accepted pIC50 of the file" in (page := Path(NEW, "report.html").read_text()) and ": pIC50" not in page
    rows = list(csv.DictReader(Path(NEW, "rounds/0/accepted.csv").read_text().splitlines()))
    assert {float(row["reward"]) for row in rows} == {2.5, 2.0, 1.0}
    counts = summary["scored_set"]
    assert (counts["objects"], counts["replicates"]) == (8, 1) and sum(counts["invalid_by_reason"].values()) == 6
    assert (
        "graft: assay.csv: 8 objects of 9 records, 1 of them averaged as replicates (3 left out: no score (" in message
    )
    assert (
        "no score (record 4: pIC50 is missing); 1 left out: no SMILES (record 6: nonsense); 1 left out: too" in message
    )
    left = list(csv.DictReader(Path(NEW, "rounds/0/invalid_records.csv").read_text().splitlines()))
    assert [int(row["record"]) for row in left] == [4, 6, 7, 9, 11, 13]
    assert "nonsense" in left[1]["why"] and "high" in left[2]["why"]


def test_without_a_reward(small: list[str]) -> None:
    kept = [arg for arg in small if arg not in REWARD]
    done("fit", *kept, "--data.reward", "null", *FILE)
    summary = json.loads(Path(NEW, "summary.json").read_text())
    assert summary["tuned"]["reward"] is None and summary["reward"]["name"] == "pIC50"


def test_a_reward_that_fails_for_all_samples_of_the_comparison(small: list[str], folder: Path) -> None:
    """The report then has no histogram of rewards, and the run ends well."""
    kept = [arg for arg in small if arg not in REWARD]
    done("fit", *kept, "--data.reward", "tried.raises", *FILE, "--trainer.max_epochs", "1")
    summary = json.loads(Path(NEW, "summary.json").read_text())
    assert summary["tuned"]["reward"] is None and summary["tuned"]["failed_rewards"] == 32
    page = Path(NEW, "report.html").read_text()
    assert "<h2>The run</h2>" in page and "<h2>Reward</h2>" not in page


def test_validation_without_a_reward(small: list[str]) -> None:
    kept = [arg for arg in small if arg not in REWARD]
    out = done("validate", *kept, "--data.reward", "null", *FILE).out
    assert "validity" in out and "reward" not in out


def test_smaller_is_better(small: list[str]) -> None:
    done("fit", *small, *FILE, "--data.source.higher_is_better", "false", "--trainer.max_epochs", "1")
    rows = list(csv.DictReader(Path(NEW, "rounds/0/accepted.csv").read_text().splitlines()))
    assert {float(row["reward"]) for row in rows} == {-1.0, 0.0, 0.25, 0.5}


def test_sdf(finished: Path, small: list[str]) -> None:
    """The samples that a run wrote, with their rewards, are a scored set."""
    sdf = finished / "samples/reference.sdf"
    message = run("fit", *small, "--data.source.path", sdf, "--data.source.score_column", "rewards").message
    assert "no record with a property 'rewards'" in message and "connected, reward" in message


def test_refusals(small: list[str], folder: Path) -> None:
    assert "--data" not in run("fit", *small, "--data.source.path", "assay.csv").message.split("score_column")[0]
    assert (
        "no column 'ic50'; there are: SMILES, pIC50"
        in run("fit", *small, *FILE[:2], "--data.source.score_column", "ic50").message
    )
    assert (
        "no file 'none.csv'"
        in run("fit", *small, "--data.source.path", "none.csv", "--data.source.score_column", "a").message
    )
    assert "'reference', 'current', or a scored file" in run("fit", *small, "--data.source", "refrence").message
    message = run("fit", *small, *FILE, "--data.source.max_invalid_fraction", "0.2").message
    assert "6 of 14 records" in message and "record 4" in message and "20%" in message
    (folder / "assay.csv").write_bytes(b"smiles,pIC50\nCC,\x00\x01\n")
    assert "no text" in run("fit", *small, *FILE).message
    (folder / "assay.xlsx").write_text("CC 1")
    message = run("fit", *small, "--data.source.path", "assay.xlsx", "--data.source.score_column", "a").message
    assert ".smi, .csv, .tsv and .txt files" in message


def test_deterministic_sampler(small: list[str]) -> None:
    message = run("fit", *small, *FILE, "--config", "process/molecule_ode.yaml").message
    assert "scored file" in message and "eta=1" in message
    auto = run("fit", *small, *FILE, "--model.level", "auto").message
    assert "'auto'" in auto and "scored file" in auto


def test_filters_and_options(small: list[str], folder: Path) -> None:
    """An export of a database: columns by other names, several kinds of values, salts, and a compressed file."""
    rows = [("Drug", "Standard Type", "Standard Relation", "Value")]
    for i, (smiles, _) in enumerate(TABLE[:4] * 3):
        rows.append((f"{smiles}.Cl" if i < 4 else smiles, "IC50" if i < 8 else "Ki", "'='", str(10**i)))
    rows += [("CCF", "IC50", "'>'", "5"), ("*CC", "IC50", "'='", "5")]
    with gzip.open("export.tsv.gz", "wt") as file:
        file.write("\n".join("\t".join(row) for row in rows))
    kept = [arg for arg in small if arg not in REWARD]
    given = [*kept, "--data.reward", "null", "--data.source.path", "export.tsv.gz"]
    given += [
        "--data.source.score_column",
        "value",
        "--data.source.filters",
        '{standard_type: IC50, Standard Relation: "="}',
    ]
    options = ["--data.source.options", "{smiles_column: Drug, largest_fragment: true}"]
    message = done("fit", *given, *options).out
    summary = json.loads(Path(NEW, "summary.json").read_text())["scored_set"]
    assert (summary["objects"], summary["replicates"], summary["filtered"]) == (4, 4, 5)
    assert summary["invalid_by_reason"] == {"with an attachment point (*), which only a fragment may have": 1}
    assert "5 records removed by filters" in message and "4 molecules have replicates that differ widely" in message
    assert "differ widely" in " ".join(summary["notes"]) and "only a fragment may have (record 14: *CC)" in message
    message = run("fit", *given, "--data.source.options.smiles_column", "Drug").message
    assert (
        "5 of 9 records" in message and "4 left out: a salt or mixture of 2 fragments (set largest_fragment)" in message
    )
    assert "no column 'Drugs'" in run("fit", *given, "--data.source.options", "{smiles_column: Drugs}").message
    message = run("fit", *given, "--data.source.options", "{smiles: Drug}").message
    assert "no option 'smiles'; there are: " in message and "smiles_column" in message


@pytest.mark.needs("diffusers")
def test_filters_of_a_domain_without_them() -> None:
    images = ["fit", "--config", "domains/image.yaml", *FILE, "--data.source.filters", "{a: 1}"]
    assert "data.source.filters is set, and Images reads scored files without it" in run(*images).message
