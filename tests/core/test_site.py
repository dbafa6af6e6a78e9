"""The documentation's site builds without a warning and loads nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_site(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]* src="https?://', text), page
        assert not re.findall(r'<link[^>]* rel="(?:stylesheet|preconnect)"[^>]* href="https?://', text), page
        assert "generated: " not in text, page
        assert '.ipynb"' not in text, f"{page} links to a notebook, which browsers do not show"
    for name in ("domains/molecules/examples/molecules", "examples/new_domain"):
        example = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        assert "highlight" in example and "The numbers in the next cell" in example
    settings = (tmp_path / "reference/settings.html").read_text(encoding="utf-8")
    for name in (
        "model.level",
        "data.draws",
        "data.budget.max_calls",
        "data.evaluation.alarms.z",
        "trainer.max_epochs",
    ):
        assert f"<code>{name}</code>" in settings
    classes = (tmp_path / "reference/classes.html").read_text(encoding="utf-8")
    for name in (
        "graft.accept.TopK",
        "graft.filters.Memory",
        "graft.process.Gaussian",
        "domains.molecules.rewards.Vina",
    ):
        assert name in classes
