"""The main job as a user runs it, at full size: minutes, so it is run with ``-m slow``."""

import json
from pathlib import Path

import pytest

from graft.cli import main

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_default_run(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["fit", "--config", "domains/molecule.yaml", "--seed_everything", str(seed)]) == 0
    summary = json.loads((tmp_path / "runs/molecule/1/summary.json").read_text())
    reference, tuned = summary["reference"], summary["tuned"]
    assert summary["gain"]["in_reference_std"] >= 0.35
    assert summary["gain"]["of_accepted"] >= 0.3
    assert tuned["valid_connected"] >= reference["valid_connected"]
    assert tuned["validity"] >= reference["validity"]
    assert tuned["uniqueness"] >= reference["uniqueness"] - 0.05
