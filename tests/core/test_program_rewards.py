"""A reward in a program of its own: lines of JSON, files of the domain, and one sentence for a crash or a hang."""

from __future__ import annotations

import math
import pickle
import sys
import textwrap
from pathlib import Path
from typing import Any

import plane
import pytest

import graft
from graft import GraftError, cli
from graft.io.fingerprint import fingerprint_hash
from graft.reward import ProgramReward, bind, score_objects

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in cli.IGNORED_WARNINGS]  # Lightning's

PROGRAM = """
import json, os, sys, time

def score(path, caption):
    x = float(open(path).read().split(",")[0])
    if x == 2:
        print("wild x", file=sys.stderr)
        sys.stderr.flush()
        os._exit(3)
    if x == 3:
        time.sleep(600)
    if x == 4:
        raise ValueError("no fours")
    return None if x == 5 else x

print("loading", flush=True)
for line in sys.stdin:
    scores, errors = [], {}
    for i, each in enumerate(json.loads(line)["objects"]):
        try:
            scores.append(score(each["file"], each["caption"]))
        except ValueError as error:
            scores.append(None)
            errors[i] = str(error)
    print("scored", len(scores))
    print(json.dumps({"scores": scores, "errors": errors}), flush=True)
"""


def program(folder: Path, text: str = PROGRAM, **settings: Any) -> ProgramReward:
    path = folder / "score.py"
    path.write_text(textwrap.dedent(text))
    reward = ProgramReward([sys.executable, "-S", str(path)], **settings)
    bind(reward, plane.made(folder))
    return reward


def test_faults_cost_their_object_alone(tmp_path: Path) -> None:
    reward = program(tmp_path, timeout=2.0)
    reward.setup()
    first = reward._running
    try:
        assert score_objects(reward, [[0.0, 1.0], [1.0, 1.0]]).values == [0, 1] and reward._running is first
        scores = score_objects(reward, [[float(i), 0.0] for i in range(7)])
        assert [scores.values[i] for i in (0, 1, 6)] == [0, 1, 6]
        assert scores.failures == {
            2: "the program ended with exit status 3: wild x",
            3: "no answer within 2 s",
            4: "no fours",
            5: "the answer has null in place of its score",
        }
        assert all(math.isnan(scores.values[i]) for i in scores.failures)
        assert first is not None and first.process.poll() is not None  # the program that crashed is gone
        assert reward.name == "score"
    finally:
        reward.teardown()
    assert reward._running is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nothing_of_this_name", "exit status 1: ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        ("import sys; sys.stdin.readline(); print('{}')", "the answer has no list named scores"),
        ("import sys; sys.stdin.readline(); print('{\"scores\": [1]}')", "1 scores for 0 objects"),
        ("import sys; sys.stdin.readline(); print('{scores')", "the answer is no JSON"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "the program ended with signal 9"),
        ("import time; time.sleep(600)", "no answer within 1 s"),
    ],
)
def test_a_program_that_does_not_work(text: str, words: str, tmp_path: Path) -> None:
    reward = program(tmp_path, text, startup_timeout=1.0 if "sleep" in text else 60.0)
    with pytest.raises(GraftError) as caught:
        reward.setup()
    assert words in str(caught.value) and "does not work" in str(caught.value) and "\n" not in str(caught.value)
    assert reward._running is None


def test_settings_are_checked(tmp_path: Path) -> None:
    with pytest.raises(GraftError, match="command is empty"):
        ProgramReward([])
    with pytest.raises(GraftError, match="timeout is 0"):
        ProgramReward(["x"], timeout=0)
    missing = ProgramReward(["/no/such/program"])
    with pytest.raises(GraftError, match="has no domain"):
        missing.setup()
    bind(missing, plane.made(tmp_path))
    with pytest.raises(GraftError, match="No such file or directory"):
        missing.setup()


def test_a_run_with_a_program(tmp_path: Path) -> None:
    text = """
    import json, sys
    for line in sys.stdin:
        files = [each["file"] for each in json.loads(line)["objects"]]
        print(json.dumps({"scores": [float(open(file).read().split(",")[0]) for file in files]}), flush=True)
    """
    reward = program(tmp_path, text, batch_size=8, unit="m")
    before = fingerprint_hash(reward)
    summary = graft.fit(plane.made(tmp_path), plane.data(reward), tmp_path / "run", plane.trainer())
    assert summary["accepted_reward"] > summary["reference"]["reward"]
    assert reward._running is None  # the run has ended it
    assert fingerprint_hash(pickle.loads(pickle.dumps(reward))) == before
    (tmp_path / "score.py").write_text("import sys")
    assert fingerprint_hash(reward) != before  # another program is another reward
