"""Metrics of fresh samples over several runs."""

import json
from pathlib import Path

import pytest
from called import done, run


def test_runs_and_their_spread(finished: Path, folder: Path) -> None:
    args = ["--weights", finished, "-n", 20, "--seed", 4]
    out = done("evaluate", *args, "--runs", 3, "--out", "a.json").out
    again = done("evaluate", *args, "--runs", 3, "--out", "b.json").out
    assert out == again and (folder / "a.json").read_text() == (folder / "b.json").read_text()
    found = json.loads((folder / "a.json").read_text())
    assert (found["n"], found["runs"], found["seed"], found["steps"]) == (20, 3, 4, 8)
    atoms = found["atom_stability"]
    assert len(set(atoms["runs"])) > 1 and atoms["mean"] == pytest.approx(sum(atoms["runs"]) / 3)
    deviation = (sum((x - atoms["mean"]) ** 2 for x in atoms["runs"]) / 2) ** 0.5
    assert atoms["interval"] == pytest.approx(4.302653 * deviation / 3**0.5)
    each = zip(*(found[name]["runs"] for name in ("validity", "uniqueness", "valid_unique")), strict=True)
    assert all(valid * unique == pytest.approx(both) for valid, unique, both in each)
    assert f"valid connected        {found['valid_connected']['mean']:.4f} ±" in out
    one = done("evaluate", "--weights", finished, "-n", 5, "--runs", 1).out
    assert "±" not in one and "1 runs of 5 samples" in one


def test_refusals(finished: Path) -> None:
    assert "--runs is 0" in run("evaluate", "--weights", finished, "--runs", 0).message
    assert "'nowhere'" in run("evaluate", "--weights", "nowhere").message
