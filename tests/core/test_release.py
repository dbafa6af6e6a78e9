"""The places that repeat the version of a release, and the workflows that check it."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from graft.version import __version__

ROOT = Path(__file__).parents[2]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_one_version() -> None:
    assert read("CITATION.cff")["version"] == __version__
    released = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == __version__
    assert f'"{__version__}"' not in (ROOT / "pyproject.toml").read_text()


def test_workflows() -> None:
    """The same `.ci/run` on every Python that pyproject.toml admits; slow tests at night."""
    jobs = read(".github/workflows/ci.yml")["jobs"]
    assert jobs["checks"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13"]
    assert {"run": ".ci/run"} in jobs["checks"]["steps"] and {"lowest", "core"} <= set(jobs)
    night = read(".github/workflows/nightly.yml")["jobs"]["slow"]["steps"]
    assert any("pytest" in step.get("run", "") and "-m slow" in step["run"] for step in night)
    assert "mkdocs build --strict" in (ROOT / ".ci/run").read_text()


def test_templates_and_hooks() -> None:
    for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("[bf]*.yml"):
        form = read(path.relative_to(ROOT).as_posix())
        assert form["name"] and form["description"] and form["body"]
    names = {hook["id"] for repo in read(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]}
    assert {"ruff", "ruff-format", "mypy"} <= names


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib")
def test_optional_packages_of_tests_are_in_dev() -> None:
    """A package of an extra of users is in dev, too, so that its tests run."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {key: {re.match(r"[\w.-]+", each)[0] for each in value} for key, value in extras.items()}  # type: ignore[index]
    assert names["docking"] | names["sklearn"] | names["lora"] | names["diffusers"] <= names["dev"]
