"""What the domain's README shows of rewards is what the classes take."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from jsonargparse import ArgumentParser
from mols import GOOD

from domains.molecules.rewards import Gated, Program, SklearnPredictor
from graft.reward import Reward

README = Path(__file__).parents[2] / "domains/molecules/README.md"


def rewards(text):
    parser = ArgumentParser()
    parser.add_argument("--reward", type=Reward)
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # the older name
    for part in yaml.safe_load_all(text):
        yield instantiate(parser.parse_object({"reward": part.get("data", part)["reward"]})).reward


def test_configurations_of_rewards(tmp_path, monkeypatch):
    skops = pytest.importorskip("skops.io")
    from sklearn.linear_model import LinearRegression

    monkeypatch.chdir(tmp_path)
    skops.dump(LinearRegression().fit(np.eye(2, 1024), [0.0, 1.0]), "model.skops")
    found = [
        reward for text in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL) for reward in rewards(text)
    ]
    assert [type(reward) for reward in found] == [Gated, Program, Program, SklearnPredictor]
    assert 0 < found[0].score(GOOD) < 1 and np.isfinite(found[3].score(GOOD))
    assert re.findall(found[1].pattern, "          | TOTAL ENERGY              -11.394334 Eh   |") == ["-11.394334"]
    assert re.findall(found[2].pattern, "Affinity: -4.21150 (kcal/mol)") == ["-4.21150"]
