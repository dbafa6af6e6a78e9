"""Rewards for chemists: known values, vetoes, likeness, windows, strain."""

import math

import numpy as np
import pytest
from mols import BAD, GOOD, embedded
from rdkit import Chem
from rdkit.Chem import Descriptors

from domains.molecules.filters import DescriptorRange
from domains.molecules.rewards import (
    QED,
    TPSA,
    AlertFree,
    DesirabilityWindow,
    GeometricMean,
    LogP,
    RDKitDescriptor,
    RingCount,
    Scaffold,
    Similarity,
    SmartsCount,
    Strain,
    SyntheticAccessibility,
)
from domains.molecules.vocabulary import EXPLICIT, HEAVY
from graft.errors import GraftError
from graft.reward import Reward, WeightedSum


def parsed(smiles):
    return Chem.MolFromSmiles(smiles)


ASPIRIN, TOLUENE = "CC(=O)Oc1ccccc1C(=O)O", "Cc1ccccc1"


def test_synthetic_accessibility():
    reward = SyntheticAccessibility()
    reward.setup()
    assert reward.score(parsed(ASPIRIN)) == pytest.approx(1.58, abs=0.05)  # as the paper's authors' table has it
    assert not reward.higher_is_better and SyntheticAccessibility(target=2).higher_is_better
    hard = "CC1CCC2CC3C4CC1C2(C)C34O"
    assert reward.score(parsed(hard)) > reward.score(parsed("CCO")) + 2
    assert reward([BAD]).failures == {0: "the molecule is not valid"}
    assert reward.score(embedded("CCO", EXPLICIT)) == reward.score(embedded("CCO", HEAVY))


def test_missing_contrib_is_one_sentence(monkeypatch, tmp_path):
    from domains.molecules.rewards import synthesis

    monkeypatch.setattr(synthesis.RDConfig, "RDContribDir", str(tmp_path))
    synthesis.scorer.cache_clear()
    with pytest.raises(GraftError, match="Contrib"):
        SyntheticAccessibility().setup()


def test_rings_and_matches():
    naphthalene, ester = parsed("c1ccc2ccccc2c1"), parsed("CC(=O)OCC(=O)OC1CC1")
    assert [RingCount().score(m) for m in (naphthalene, ester, GOOD)] == [2, 1, 0]
    assert (RingCount(size=6).score(ester), RingCount(size=3).score(ester)) == (0, 1)
    assert (RingCount(aromatic=True).score(naphthalene), RingCount(aromatic=True).score(ester)) == (2, 0)
    assert RingCount(aromatic=False).score(ester) == 1
    assert SmartsCount("C(=O)O[#6]").score(ester) == 2
    assert SmartsCount("[OH]").score(GOOD) == SmartsCount("[OH]").score(embedded("CCO", EXPLICIT)) == 1
    assert SmartsCount("[OH]", target=1).score(GOOD) == 1 and RingCount(target=1).score(GOOD) == pytest.approx(
        math.exp(-0.5)
    )
    with pytest.raises(GraftError, match="not a SMARTS"):
        SmartsCount("C(")


def test_any_descriptor_by_its_name():
    assert RDKitDescriptor("MolWt").score(GOOD) == pytest.approx(Descriptors.MolWt(parsed("CCO")))
    assert RDKitDescriptor("MolWt", target=46.07, width=5).score(GOOD) == pytest.approx(1, abs=1e-4)
    with pytest.raises(GraftError, match=r"MolWeight.*such as"):
        RDKitDescriptor("MolWeight")


def test_vetoes():
    reward = AlertFree(QED())
    rhodanine, aldehyde = parsed("O=C1CSC(=S)N1"), parsed("CCCC=O")
    assert any(
        "thiaz" in name or "rhod" in name
        for name in AlertFree(QED(), ["PAINS"]).alerts(parsed("O=C1C(=Cc2ccccc2)SC(=S)N1"))
    )
    assert reward.alerts(aldehyde) == ["aldehyde"] and reward.alerts(parsed("CCO")) == []
    assert reward([aldehyde, GOOD, BAD]).values == [0, QED().score(GOOD), 0]
    assert not reward([aldehyde, GOOD, BAD]).failures
    own = AlertFree(QED(), catalogues=[], smarts=["[OH]"], fallback=-1)
    assert own([GOOD, rhodanine]).values == [-1, QED().score(rhodanine)] and own.alerts(GOOD) == ["[OH]"]
    with pytest.raises(GraftError, match=r"PAIN'.*PAINS_A"):
        AlertFree(QED(), ["PAIN"])


def test_likeness():
    assert Similarity(ASPIRIN).score(parsed(ASPIRIN)) == 1
    assert 0 < Similarity("CCCO").score(GOOD) < 1 and Similarity("CCCO", counts=True).score(GOOD) < 1
    assert Similarity("CCO", target=1).score(GOOD) == 1
    biphenyl = parsed("c1ccc(-c2ccccc2C)cc1")
    assert [Scaffold(TOLUENE).score(m) for m in (parsed(ASPIRIN), biphenyl, GOOD)] == [1, 0, 0]
    assert Scaffold(TOLUENE, match="contains").score(biphenyl) == 1
    cyclohexanol = parsed("OC1CCCCC1")
    assert (Scaffold(TOLUENE).score(cyclohexanol), Scaffold(TOLUENE, generic=True).score(cyclohexanol)) == (0, 1)
    for bad, words in (("C(", "not the SMILES"), ("", "not the SMILES")):
        with pytest.raises(GraftError, match=words):
            Similarity(bad)
    with pytest.raises(GraftError, match="no ring"):
        Scaffold("CCO")


class Fixed(Reward):
    name = "fixed"

    def score(self, item):
        return item


def test_a_desirability_window():
    window = DesirabilityWindow(Fixed(), low=1, high=2, margin=0.5)
    assert window([0.5, 0.75, 1.0, 1.5, 2.0, 2.25, 9.0]).values == [0, 0.5, 1, 1, 1, 0.5, 0]
    assert DesirabilityWindow(Fixed(), high=2)([2.0, 2.1]).values == [1, 0] and window.score(0.75) == 0.5
    assert window.name == "fixed ≥ 1 and ≤ 2"
    assert DesirabilityWindow(TPSA(), low=1)([BAD]).failures == {0: "the molecule is not valid"}
    assert math.isnan(window.score(math.nan))
    for wrong in ({}, {"low": 2, "high": 1}):
        with pytest.raises(GraftError, match="the window of fixed"):
            DesirabilityWindow(Fixed(), **wrong)
    for wrong in ({"low": math.nan}, {"high": math.nan}, {"low": 1, "margin": -1}, {"low": 1, "margin": math.nan}):
        with pytest.raises(GraftError, match=f"{list(wrong)[-1]} is"):
            DesirabilityWindow(Fixed(), **wrong)


def test_settings_that_are_not_finite():
    for made in (
        lambda: LogP(target=math.nan),
        lambda: LogP(target=1.0, width=math.nan),
        lambda: DescriptorRange("MolLogP", low=math.nan),
        lambda: GeometricMean([QED(), QED()], [1.0, math.nan]),
        lambda: WeightedSum([QED()], [math.inf]),
    ):
        with pytest.raises(GraftError, match=r"finite|above 0"):
            made()


def test_several_objectives():
    one, half, none = (DesirabilityWindow(Fixed(), low=low, margin=1) for low in (0, 0.5, 1))
    both = GeometricMean([one, half, none], [1, 2, 1])
    assert both.score(0.5) == pytest.approx((1 * 1**2 * 0.5) ** 0.25)
    assert both([0.0, 0.5]).values == pytest.approx([0, 0.5**0.25])
    unbounded = GeometricMean([Fixed()])
    assert "outside 0 to 1" in unbounded([1.5]).failures[0]
    with pytest.raises(ValueError, match="outside 0 to 1"):
        unbounded.score(1.5)
    assert GeometricMean([QED(), DesirabilityWindow(LogP(), low=-1, high=1)])([BAD, GOOD]).failures.keys() == {0}
    with pytest.raises(GraftError, match="better when smaller"):
        GeometricMean([Strain()])
    with pytest.raises(GraftError, match="must be positive"):
        GeometricMean([one, half], [1, 0])


def test_strain():
    for smiles in ("CCO", "NCC(=O)O"):
        for vocabulary in (HEAVY, EXPLICIT):
            assert Strain().score(embedded(smiles, vocabulary)) == pytest.approx(0, abs=0.05), (smiles, vocabulary.name)
    bent = Chem.Mol(embedded("CCO", EXPLICIT))
    x = bent.GetConformer().GetPositions()
    bent.GetConformer().SetPositions(x + 0.05 * (-1) ** np.arange(len(x))[:, None])
    assert Strain().score(bent) > 5
    assert Strain(per_atom=True).score(bent) == pytest.approx(Strain().score(bent) / 3)
    scores = Strain()([BAD, GOOD])
    assert list(scores.failures) == [0] and not Strain().higher_is_better and Strain().unit == "kcal/mol"
    for place in (0 * x, np.full_like(x, np.nan)):
        broken = Chem.Mol(bent)
        broken.GetConformer().SetPositions(place)
        with pytest.raises(ValueError):
            Strain().score(broken)
    with pytest.raises(ValueError, match="did not converge"):
        Strain(steps=1).score(bent)
