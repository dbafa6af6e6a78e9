"""`graft fit` with the workers of an executor that the configuration names by its class path."""

import json
import re
from pathlib import Path

import pytest
import yaml
from called import HALF, MOLECULE, QUIET, SMALL, done, run

PAGE = (Path(__file__).parents[2] / "docs/guides/distributed_rewards.md").read_text(encoding="utf-8")
CONFIG = """
data:
  reward:
    class_path: graft.reward.DistributedReward
    init_args:
      reward: {class_path: graft.reward.FunctionReward, init_args: {path: tried.kills_for_one, timeout: null}}
      executor: %s
      options: {max_workers: 1}
      chunk_size: 8
      retries: 1
"""
ONE = ["--trainer.max_epochs", "1", "--data.draws", "32", "--data.evaluation.test_draws", "16"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_round_with_a_worker_that_is_killed(folder: Path) -> None:
    """The object that killed its worker is scored by the next worker: nothing fails, and nothing is scored 0."""
    Path("many.yaml").write_text(CONFIG % "concurrent.futures.ProcessPoolExecutor")
    done("fit", *MOLECULE, *SMALL, *HALF, *ONE, *QUIET, "--config", "many.yaml", "--run_dir", "out")
    assert (folder / "killed").exists()
    summary = json.loads((folder / "out/summary.json").read_text())
    assert summary["rounds"][0]["reward_calls"] == 32 and summary["rounds"][0]["failed_rewards"] == 0


@pytest.mark.parametrize(
    ("executor", "words"),
    [("nowhere.Executor", "nowhere"), ("builtins.dict", "must return a concurrent.futures.Executor")],
)
def test_another_class_is_refused_in_one_sentence(executor: str, words: str) -> None:
    Path("many.yaml").write_text(CONFIG % executor)
    message = run("fit", *MOLECULE, *SMALL, *HALF, *ONE, *QUIET, "--config", "many.yaml", "--run_dir", "out").message
    assert words in message
    assert not list(Path("out").glob("rounds/*/*"))  # before anything is sampled


def test_the_configurations_of_the_page_are_read() -> None:
    blocks = re.findall(r"<!-- file: (\S+) -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert [name for name, _ in blocks] == ["many.yaml", "docking.yaml"]
    for name, text in blocks:
        Path(name).write_text(text, encoding="utf-8")
        shown = yaml.safe_load(done("fit", *MOLECULE, "--config", name, "--print_config").out)["data"]["reward"]
        given = yaml.safe_load(text)["data"]["reward"]["init_args"]
        assert shown["class_path"] == "graft.reward.DistributedReward"
        assert shown["init_args"]["options"] == given["options"]
        assert shown["init_args"]["executor"] == given["executor"]
