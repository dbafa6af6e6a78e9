"""Metrics of sets with known shares, in one process and in two."""

import pytest
import torch
from rdkit import Chem, rdBase

from domains.molecules.metrics import (
    AtomStability,
    AtomTypes,
    MoleculeStability,
    Novelty,
    Uniqueness,
    Validity,
)
from graft.domain.training_set import key_hash, key_hashes


def mols(*smiles):
    with rdBase.BlockLogs():
        return [Chem.MolFromSmiles(text, sanitize=False) for text in smiles]


# two equal, one radical, one that is not valid
SET = mols("CCO", "OCC", "C[CH2]", "CC(C)(C)(C)C")


def result(metric, *batches):
    for batch in batches:
        metric.update(batch)
    return metric.compute().item()


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        (AtomStability(), 12 / 14),  # the radical carbon and the carbon with five bonds
        (MoleculeStability(), 2 / 4),
        (Validity(), 2 / 4),
        (Uniqueness(), 1 / 2),
        (Novelty(key_hashes(["CCO", "CCC"])), 0.0),
        (Novelty(key_hashes([])), 1.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_shares(metric, value):
    assert result(metric, SET) == pytest.approx(value)
    metric.reset()
    assert result(metric, SET[:1], SET[1:], []) == pytest.approx(value)


@pytest.mark.parametrize("metric", [Uniqueness(), Novelty(key_hashes(["C"])), Validity(), AtomStability()], ids=repr)
def test_nothing_gives_zero(metric):
    assert result(metric, []) == 0


def test_no_valid_molecule_gives_zero():
    assert (
        result(Uniqueness(), SET[3:]) == result(Validity(), SET[3:]) == result(Novelty(key_hashes(["C"])), SET[3:]) == 0
    )


def test_two_processes_are_one():
    other = key_hashes(["CCO", "CCN", "CCC"])

    def gather(state, group):
        return [state, other]

    two = {"dist_sync_fn": gather, "distributed_available_fn": lambda: True}
    assert result(Uniqueness(**two), SET) == pytest.approx(3 / 5)
    assert result(Novelty(key_hashes(["CCO"]), **two), SET) == pytest.approx(2 / 3)


def test_two_processes_sum_counts():
    twice = {"dist_sync_fn": lambda state, group: [state, 3 * state], "distributed_available_fn": lambda: True}
    metric = Validity(**twice)
    metric.update(SET)
    assert metric.compute() == 0.5
    metric.sync(dist_sync_fn=twice["dist_sync_fn"], distributed_available=lambda: True)
    assert metric.all == 16


def test_atom_types():
    metric = AtomTypes()
    metric.update([Chem.MolFromSmiles("CCO"), Chem.MolFromSmiles("CF")])
    shares = {name: share.item() for name, share in metric.compute().items() if share}
    assert shares == pytest.approx({"CH3": 0.4, "CH2": 0.2, "OH": 0.2, "F": 0.2})
    explicit = AtomTypes("explicit")
    explicit.update([Chem.AddHs(Chem.MolFromSmiles("CO"))])
    assert explicit.compute()["H"].item() == pytest.approx(4 / 6)


def test_hashes_are_fixed_signed_64_bit_numbers():
    assert key_hash("CCO") == 7863297522579887043  # part of no file format, but of equality over processes
    assert key_hashes(["CCO", "", "CCN"]).tolist() == [key_hash("CCO"), key_hash("CCN")]
    hashes = key_hashes([f"C{i}" for i in range(100)])
    assert hashes.dtype == torch.int64 and len(hashes.unique()) == 100 and (hashes < 0).any() and (hashes > 0).any()
