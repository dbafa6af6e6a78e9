"""Tiny pipelines, each saved once a session, and prompts."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched

import pytest
import tiny

PROMPTS = ["a red ball", "a blue cube on a table", "a dog"]


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folder of each kind of pipeline."""
    folder = tmp_path_factory.mktemp("pipelines")
    return {kind: tiny.save(kind, folder / kind) for kind in tiny.KINDS}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in a folder with nothing but prompts.txt."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    return tmp_path
