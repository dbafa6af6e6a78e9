"""Rewards of molecules with known descriptors, in both conventions, alone and put together."""

import math
import re

import pytest
from jsonargparse import ArgumentParser
from mols import BAD, GOOD, PIECES, RADICAL, embedded
from rdkit import Chem
from rdkit.Chem import QED as rdkit_qed
from rdkit.Chem import Crippen, Descriptors

from domains.molecules.chemistry import molecule_key
from domains.molecules.rewards import (
    QED,
    TPSA,
    AlertFree,
    DesirabilityWindow,
    Gated,
    LogP,
    RDKitDescriptor,
    RingCount,
    Stability,
    Strain,
    SyntheticAccessibility,
    Validity,
    WeightedSum,
)
from domains.molecules.vocabulary import EXPLICIT, HEAVY
from graft.errors import GraftError
from graft.reward import CachedReward, Reward


@pytest.mark.parametrize("vocabulary", [HEAVY, EXPLICIT], ids=["heavy", "explicit"])
@pytest.mark.parametrize("smiles", ["CCO", "NCC(=O)O", "CC(=O)NC", "C1CCNC1"])
def test_descriptors_are_those_of_the_smiles(smiles, vocabulary):
    mol, meant = embedded(smiles, vocabulary), Chem.MolFromSmiles(smiles)
    assert molecule_key(mol) == Chem.CanonSmiles(smiles)
    assert QED().score(mol) == pytest.approx(rdkit_qed.qed(meant))
    assert LogP().score(mol) == pytest.approx(Crippen.MolLogP(meant))
    assert TPSA().score(mol) == pytest.approx(Descriptors.TPSA(meant))


def test_published_values():
    assert TPSA().score(GOOD) == pytest.approx(20.23)
    assert (TPSA().name, TPSA().unit, QED().name, QED().unit) == ("TPSA", "Å²", "QED", "")


def test_stability_and_validity():
    mols = [GOOD, BAD, RADICAL, PIECES]
    assert Stability()(mols).values == [1, 0, 0, 1]
    assert Validity()(mols).values == [1, 0, 0, 1]


def test_a_window_rewards_nearness():
    reward = TPSA(target=30.23, width=10)
    assert reward.score(GOOD) == pytest.approx(math.exp(-0.5))
    assert TPSA(target=20.23).score(GOOD) == pytest.approx(1)
    assert (reward.name, reward.unit) == ("TPSA near 30.23", "")
    assert TPSA().unit == "Å²"
    with pytest.raises(GraftError, match="must be above 0"):
        LogP(target=1, width=0)


@pytest.mark.parametrize("reward", [QED(), LogP(), TPSA(target=20)], ids=lambda reward: reward.name)
def test_descriptors_of_what_is_not_valid_fail(reward):
    scores = reward([GOOD, BAD])
    assert math.isfinite(scores.values[0]) and math.isnan(scores.values[1])
    assert scores.failures == {1: "the molecule is not valid"}


def test_the_gate():
    mols = [GOOD, BAD, RADICAL, PIECES]
    scores = Gated(QED())(mols)
    assert scores.values == [QED().score(GOOD), 0, 0, 0] and not scores.failures
    assert [Gated(QED()).score(mol) for mol in mols] == scores.values
    some = Gated(TPSA(), require=["valid"], fallback=-1)(mols)
    assert some.values == pytest.approx([20.23, -1, -1, 0]) and Gated(TPSA()).unit == "Å²"
    failed = Gated(QED(), require=["connected"])(mols)
    assert failed.failures == dict.fromkeys([1, 2], "the molecule is not valid") and failed.values[3] == 0
    with pytest.raises(GraftError, match="unknown condition 'pretty'"):
        Gated(QED(), require=["pretty"])


def test_what_does_not_pass_is_never_better_than_what_does():
    assert Gated(SyntheticAccessibility())([GOOD, BAD]).values == [SyntheticAccessibility().score(GOOD), 10]
    assert (
        AlertFree(SyntheticAccessibility()).score(BAD) == 10 and Gated(SyntheticAccessibility(target=2)).score(BAD) == 0
    )
    assert (
        Gated(DesirabilityWindow(LogP(), low=0)).score(BAD)
        == Gated(LogP(target=1)).score(BAD)
        == Gated(RingCount()).score(BAD)
        == 0
    )
    for reward in (
        LogP(),
        Strain(),
        RingCount(higher_is_better=False),
        RDKitDescriptor("MolWt"),
        Charge(),
        WeightedSum([QED(), LogP()], [1, 1]),
    ):
        for gate in (Gated, AlertFree):
            with pytest.raises(GraftError, match=f"{re.escape(reward.name)} has no worst.*give fallback.*Desirability"):
                gate(reward)
    assert (
        Gated(AlertFree(LogP(), fallback=-9)).score(BAD) == -9
    )  # the fallback of the inner gate holds for the outer one
    assert Gated(AlertFree(SyntheticAccessibility(), fallback=20)).score(BAD) == 20
    assert Gated(CachedReward(SyntheticAccessibility())).score(BAD) == 10


def test_the_worst_of_a_weighted_sum():
    assert WeightedSum([QED(), SyntheticAccessibility()], [1, 0.1]).worst_value == -1
    assert (
        WeightedSum([QED(), SyntheticAccessibility()], [1, -0.1]).worst_value is None
    )  # its worst value is the best here
    assert WeightedSum([QED(), LogP()], [1, 0.1]).worst_value is None


class Charge(Reward):
    name, higher_is_better = "charge", False

    def score(self, item):
        return 2.0


class Closed(Charge):
    closed = False

    def teardown(self):
        self.closed = True


def test_the_weighted_sum():
    reward = WeightedSum([QED(), TPSA(), Charge()], [1.0, 0.1, 3.0])
    expected = QED().score(GOOD) + 2.023 - 6
    assert reward.score(GOOD) == pytest.approx(expected)
    scores = reward([GOOD, BAD])
    assert scores.values[0] == pytest.approx(expected) and math.isnan(scores.values[1])
    assert list(scores.failures) == [1] and "the molecule is not valid" in scores.failures[1]
    assert reward.name == "1 QED + 0.1 TPSA + -3 charge"
    with pytest.raises(GraftError, match="2 rewards and 1 weights"):
        WeightedSum([QED(), TPSA()], [1.0])


def test_closing_reaches_the_rewards_inside():
    inner = Closed()
    WeightedSum([Gated(inner, fallback=3)], [1.0]).teardown()
    assert inner.closed


def test_rewards_are_configured_by_class_path():
    parser = ArgumentParser()
    parser.add_argument("--reward", type=Reward)
    module = "domains.molecules.rewards"
    gated = {"class_path": f"{module}.Gated", "init_args": {"reward": {"class_path": f"{module}.QED"}}}
    window = {"class_path": f"{module}.LogP", "init_args": {"target": 1.0}}
    strict = {**gated, "init_args": {**gated["init_args"], "require": ["valid"], "fallback": -1.0}}
    init_args = {"terms": [gated, window, strict], "weights": [1, 2, 1]}
    config = {"class_path": f"{module}.WeightedSum", "init_args": init_args}
    instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes  # the older name
    reward = instantiate(parser.parse_object({"reward": config})).reward
    assert [type(term) for term in reward.terms] == [Gated, LogP, Gated]
    assert reward.terms[2].fallback == -1 and len(reward.terms[0]._conditions) == 3
    assert reward.score(GOOD) == pytest.approx(2 * QED().score(GOOD) + 2 * LogP(1.0).score(GOOD))
