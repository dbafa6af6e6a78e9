"""xTB: the reward of the package tblite and the program, where they are installed."""

import re
import shutil
import sys

import numpy as np
import pytest
from mols import BAD, embedded
from rdkit import Chem
from rdkit.Chem import rdMolTransforms
from test_molecules_readme import README, rewards

from domains.molecules.rewards import XTB, ExternalProgram
from graft.errors import GraftError
from graft.reward import score_objects

needs_xtb = pytest.mark.skipif(shutil.which("xtb") is None, reason="the program xtb is not installed")


@pytest.fixture
def tblite():
    return pytest.importorskip("tblite", reason="pip install 'graft-diffusion[xtb]'")


def test_the_gap_of_a_saturated_molecule_is_larger(tblite):
    reward = XTB()
    reward.setup()
    scores = score_objects(reward, [embedded("c1ccccc1O"), embedded("CC"), BAD])
    assert 3 < scores.values[0] < 6 < scores.values[1] < 20  # eV
    assert scores.failures == {2: "the molecule is not valid"} and reward.unit == "eV"


def test_the_dipole(tblite):
    """Benzene has none; that of methanol is measured as 1.7 D. Neither depends on how the molecule is turned."""
    reward = XTB("dipole")
    assert reward.score(embedded("c1ccccc1")) < 0.01
    methanol = embedded("CO")
    value = reward.score(methanol)
    assert value == pytest.approx(1.7, abs=0.4)
    turned = Chem.Mol(methanol)
    turn = np.eye(4)
    turn[:3, :3], turn[:3, 3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]], [1, 2, 3]
    rdMolTransforms.TransformConformer(turned.GetConformer(), turn)
    assert XTB("dipole", relax=False).score(turned) == pytest.approx(
        XTB("dipole", relax=False).score(methanol), abs=1e-4
    )


def test_arguments(monkeypatch):
    with pytest.raises(GraftError, match="quantity of XTB is 'energy'; it must be one of gap, dipole"):
        XTB("energy")
    monkeypatch.setitem(sys.modules, "tblite", None)
    with pytest.raises(GraftError, match=r"package 'tblite'.*graft-diffusion\[xtb\]"):
        XTB().setup()


@needs_xtb
def test_the_program(tblite):
    """The README's command runs, and the program and the package agree on a gap."""
    (text,) = [each for each in re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL) if "[xtb," in each]
    (energy,) = rewards(text)
    energy.setup()
    phenol = embedded("c1ccccc1O")
    scores = score_objects(energy, [phenol, embedded("CC")])
    assert scores.failures == {} and scores.values[0] < scores.values[1] < -7
    gap = ExternalProgram(["xtb", "{input}", "--gfn", "2"], pattern=r"HOMO-LUMO GAP\s+(\S+)")
    assert gap.score(phenol) == pytest.approx(XTB(relax=False).score(phenol), abs=2e-3)
