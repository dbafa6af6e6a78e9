"""The rewards in the domain's README have the settings of the classes."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from jsonargparse import ArgumentParser
from mols import GOOD, embedded

from domains.molecules.rewards import ExternalProgram, Gated, SklearnPredictor, Vina
from graft.errors import GraftError
from graft.reward import Reward

README = Path(__file__).parents[2] / "domains/molecules/README.md"


def rewards(text):
    parser = ArgumentParser()
    parser.add_argument("--reward", type=Reward)
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # the older name
    for part in yaml.safe_load_all(text):
        yield instantiate(parser.parse_object({"reward": part["data"]["reward"]})).reward


# What the two programs print of the number, by scripts that take the README's arguments and read their files
XTB = """
file, gfn, level = sys.argv[1:]
atoms = int(open(file).readline())
print("          | TOTAL ENERGY            %12.6f Eh   |" % -atoms)
"""
SMINA = """
_, receptor, _, ligand, _ = sys.argv[1:]
print("Affinity: %.5f (kcal/mol)" % (float(open(receptor).read()) * ("V2000" in open(ligand).read())))
"""


def test_configurations_of_rewards(tmp_path, monkeypatch):
    skops = pytest.importorskip("skops.io")
    from sklearn.ensemble import RandomForestRegressor

    monkeypatch.chdir(tmp_path)
    skops.dump(RandomForestRegressor(2).fit(np.eye(2, 1024), [0.0, 1.0]), "model.skops")
    found = [
        reward for text in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL) for reward in rewards(text)
    ]
    kinds = [Gated, ExternalProgram, ExternalProgram, Gated, Vina, SklearnPredictor]
    assert [type(reward) for reward in found] == kinds
    assert 0 < found[0].score(GOOD) < 1 and np.isfinite(found[5].score(GOOD))
    monkeypatch.setenv("PATH", str(tmp_path))  # the real programs may be installed
    Path("receptor.pdbqt").write_text("-4.2")
    for reward, name, code, expected in ((found[1], "xtb", XTB, -8), (found[2], "smina", SMINA, -4.2)):
        with pytest.raises(GraftError, match=f"no program '{name}'"):
            reward.setup()
        Path(name).write_text(f"#!{sys.executable}\nimport sys\n{code}")
        Path(name).chmod(0o755)
        reward.setup()
        assert (reward([embedded("CC")]).values, reward.higher_is_better) == ([expected], False)
