"""Trained predictors as rewards, and files that must not be read."""

import math
import pickle

import numpy as np
import pytest
import torch
from mols import BAD, GOOD, embedded
from rdkit import Chem
from rdkit.Chem import Crippen
from safetensors.torch import save_file

from domains.molecules.rewards import MLP, DescriptorFeatures, MorganFeatures, SklearnPredictor, TorchPredictor
from graft.errors import GraftError
from graft.io.fingerprint import fingerprint_hash

skops = pytest.importorskip("skops.io")
from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402

SMILES = ["CCO", "CCCC", "CC(=O)O", "c1ccccc1", "CCN", "OCCO", "CCCl", "C1CCCCC1O"]
NAMES = ["MolLogP", "TPSA"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A regression that has learnt logP + 1 from descriptors, and a classifier on fingerprints."""
    folder = tmp_path_factory.mktemp("models")
    mols = [Chem.MolFromSmiles(s) for s in SMILES]
    y = np.array([Crippen.MolLogP(m) + 1 for m in mols])
    skops.dump(LinearRegression().fit(DescriptorFeatures(NAMES)(mols), y), folder / "line.skops")
    skops.dump(LogisticRegression().fit(MorganFeatures(bits=64)(mols), y > 1), folder / "class.skops")
    return folder


def test_scikit_learn(folder):
    reward = SklearnPredictor(str(folder / "line.skops"), DescriptorFeatures(NAMES), unit="pIC50")
    scores = reward([GOOD, BAD, embedded("CCN")])
    assert scores.values[0] == pytest.approx(Crippen.MolLogP(Chem.MolFromSmiles("CCO")) + 1, abs=1e-5)
    assert scores.failures == {1: "the molecule is not valid"} and reward.score(GOOD) == pytest.approx(scores.values[0])
    assert (reward.name, reward.unit) == ("line", "pIC50")
    likely = SklearnPredictor(str(folder / "class.skops"), MorganFeatures(bits=64), probability=True)
    assert 0 < likely.score(GOOD) < 1
    with pytest.raises(GraftError, match="no probabilities"):
        SklearnPredictor(str(folder / "line.skops"), DescriptorFeatures(NAMES), probability=True)
    with pytest.raises(GraftError, match="features of its training"):
        SklearnPredictor(str(folder / "line.skops"))([GOOD])
    with pytest.raises(ValueError, match="not valid"):
        reward.score(BAD)


class NotFinite(DescriptorFeatures):
    """Descriptors, of which those of ethylamine are not finite."""

    def __call__(self, molecules):
        found = super().__call__(molecules)
        found[[Chem.MolToSmiles(mol) == "CCN" for mol in molecules]] = np.inf
        return found


def test_features_that_are_not_finite(folder):
    reward = SklearnPredictor(str(folder / "line.skops"), NotFinite(NAMES))
    scores = reward([GOOD, embedded("CCN")])
    assert scores.values[0] == pytest.approx(Crippen.MolLogP(Chem.MolFromSmiles("CCO")) + 1, abs=1e-5)
    assert scores.failures == {1: "the prediction is nan"}
    assert reward([embedded("CCN")]).failures == {0: "the prediction is nan"}


def test_a_random_forest(folder):
    """Its trees are trusted by name, because skops cannot check their content. Text labels have probabilities."""
    mols = [Chem.MolFromSmiles(s) for s in SMILES]
    words = ["active" if Crippen.MolLogP(mol) > 1 else "inactive" for mol in mols]
    forest = RandomForestClassifier(3, random_state=0).fit(MorganFeatures(bits=64)(mols), words)
    skops.dump(forest, path := folder / "forest.skops")
    with pytest.raises(GraftError, match=r"trusted: \[sklearn\.tree\._tree\.Tree\]"):
        SklearnPredictor(str(path), MorganFeatures(bits=64))
    trees = ["sklearn.tree._tree.Tree"]
    reward = SklearnPredictor(str(path), MorganFeatures(bits=64), probability=True, trusted=trees)
    assert reward.score(GOOD) == forest.predict_proba(MorganFeatures(bits=64)([Chem.MolFromSmiles("CCO")]))[0, 1]
    with pytest.raises(GraftError, match=r"'(in)?active', a class .* `probability: true` .* last class, 'inactive'"):
        SklearnPredictor(str(path), MorganFeatures(bits=64), trusted=trees)([GOOD])


class Evil:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code ran')",))


def test_files_that_are_not_read(folder, tmp_path):
    evil = tmp_path / "evil.pkl"
    evil.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(GraftError, match=r"skops\.io\.dump"):
        SklearnPredictor(str(evil))
    (tmp_path / "evil.skops").write_bytes(evil.read_bytes())
    with pytest.raises(GraftError, match="no model that skops wrote"):
        SklearnPredictor(str(tmp_path / "evil.skops"))
    whole = (folder / "line.skops").read_bytes()
    (tmp_path / "half.skops").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GraftError, match="truncated"):
        SklearnPredictor(str(tmp_path / "half.skops"))
    skops.dump(Evil(), tmp_path / "other.skops")
    with pytest.raises(GraftError, match=r"not known to be safe; .*`trusted: \[.*(exec|Evil)"):
        SklearnPredictor(str(tmp_path / "other.skops"))
    with pytest.raises(GraftError, match="no file"):
        SklearnPredictor("missing.skops")
    (tmp_path / "evil.pt").write_bytes(evil.read_bytes())
    with pytest.raises(GraftError, match="not a file of tensors"):
        TorchPredictor(str(tmp_path / "evil.pt"), MLP(64, 8, 1))


def test_torch(tmp_path):
    torch.manual_seed(0)
    network = MLP(64, 8, 1)
    save_file(network.state_dict(), tmp_path / "net.safetensors")
    torch.save(network.state_dict(), tmp_path / "net.pt")
    expected = network(torch.from_numpy(MorganFeatures(bits=64)([Chem.MolFromSmiles("CCO")]))).item()
    for name in ("net.safetensors", "net.pt"):
        reward = TorchPredictor(str(tmp_path / name), MLP(64, 8, 1), MorganFeatures(bits=64))
        assert reward.score(GOOD) == pytest.approx(expected)
    logit = TorchPredictor(str(tmp_path / "net.pt"), MLP(64, 8, 1), MorganFeatures(bits=64), output="sigmoid")
    assert logit.score(GOOD) == pytest.approx(1 / (1 + math.exp(-expected)))
    assert fingerprint_hash(logit) != fingerprint_hash(reward)
    with pytest.raises(GraftError, match="another network's weights"):
        TorchPredictor(str(tmp_path / "net.pt"), MLP(64, 9, 1))
    with pytest.raises(GraftError, match="features of its training"):
        TorchPredictor(str(tmp_path / "net.pt"), MLP(64, 8, 1))([GOOD])


def test_identity_is_the_files(folder):
    one = SklearnPredictor(str(folder / "line.skops"), DescriptorFeatures(NAMES))
    assert fingerprint_hash(one) == fingerprint_hash(
        SklearnPredictor(str(folder / "line.skops"), DescriptorFeatures(NAMES), name="other")
    )
    assert fingerprint_hash(one) != fingerprint_hash(
        SklearnPredictor(str(folder / "class.skops"), DescriptorFeatures(NAMES))
    )
    with pytest.raises(GraftError, match="no descriptor 'Nonsense'"):
        DescriptorFeatures(["Nonsense"])
