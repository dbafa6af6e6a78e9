"""The page on rewards by a program, a server or a judge: its program scores a run, its configurations are read."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from called import HALF, MOLECULE, QUIET, SMALL, done

PAGE = (Path(__file__).parents[2] / "docs/guides/rewards_elsewhere.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"<!-- file: (\S+) -->\n```yaml\n(.*?)```", PAGE, re.DOTALL))
ONE = ["--trainer.max_epochs", "1", "--data.draws", "16", "--data.evaluation.test_draws", "8"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_program_of_the_page_scores_molecules(folder: Path) -> None:
    """The page's program with another score: the number of lines of the SDF file, which grows with the molecule."""
    (program,) = re.findall(r"```python\n# score\.py\n(.*?)```", PAGE, re.DOTALL)
    assert "return 0.5" in program
    Path("score.py").write_text(program.replace("return 0.5", 'return len(open(file).read().split("\\n"))'))
    Path("program.yaml").write_text(BLOCKS["program.yaml"].replace("/opt/other/bin/python", sys.executable))
    done("fit", *MOLECULE, *SMALL, *HALF, *ONE, *QUIET, "--config", "program.yaml", "--run_dir", "out")
    summary = json.loads((folder / "out/summary.json").read_text())
    assert summary["rounds"][0]["reward_calls"] == 16 and summary["rounds"][0]["failed_rewards"] == 0
    assert summary["accepted_reward"] > summary["reference"]["reward"] > 5


def test_the_configurations_of_the_page_are_read() -> None:
    assert list(BLOCKS) == ["program.yaml", "server.yaml", "judge.yaml"]
    for name in ("server.yaml", "judge.yaml"):
        Path(name).write_text(BLOCKS[name], encoding="utf-8")
        shown = yaml.safe_load(done("fit", *MOLECULE, "--config", name, "--print_config").out)["data"]["reward"]
        given = yaml.safe_load(BLOCKS[name])["data"]["reward"]
        assert shown["class_path"] == given["class_path"]
        assert given["init_args"].items() <= shown["init_args"].items()
