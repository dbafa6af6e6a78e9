"""Bonds by distance, stability, validity and keys, against the field's known answers."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem

from domains.molecules.builder import build
from domains.molecules.chemistry import is_connected, is_stable, is_valid, molecule_key, stable_atoms
from domains.molecules.edm_bonds import bond_orders
from domains.molecules.vocabulary import EXPLICIT, HEAVY

QM9 = Path(__file__).parents[2].parent / "shared/data/qm9_edm_test_split/qm9_test.npz"
needs_qm9 = pytest.mark.skipif(not QM9.is_file(), reason="QM9's test split is not here")

C, N, O, F = 6, 7, 8, 9  # noqa: E741


def heavy(kinds, positions):
    """One molecule of the heavy convention from (element, hydrogens) pairs."""
    types = np.array([[HEAVY.index[(*kind, 0)] for kind in kinds]])
    return build(types, np.array([positions], float), np.array([len(kinds)]), HEAVY)[0]


def pair(first, second, distance):
    return bond_orders(np.array([[first, second]]), np.array([[[0, 0, 0], [distance, 0, 0]]]))[0, 0, 1]


def ethanol(last=1.43):
    return heavy([(C, 3), (C, 2), (O, 1)], [[0, 0, 0], [1.53, 0, 0], [1.53, last, 0]])


@pytest.mark.parametrize(
    ("first", "second", "distance", "order"),
    [
        (C, C, 1.65, 0),
        (C, C, 1.64, 0),  # strict: the limit itself is no bond
        (C, C, 1.639, 1),
        (C, C, 1.39, 1),
        (C, C, 1.389, 2),
        (C, C, 1.23, 2),
        (C, C, 1.229, 3),
        (C, N, 1.335, 2),
        (C, N, 1.345, 1),
        (O, C, 1.155, 3),
        (N, N, 1.135, 2),
        (N, N, 1.125, 3),
        (O, N, 1.0, 2),  # no triple
        (C, F, 1.0, 1),  # no double
        (1, C, 1.189, 1),
        (1, 1, 0.845, 0),
        (C, 0, 0.5, 0),  # padding
    ],
)
def test_bond_order_of_a_pair(first, second, distance, order):
    assert pair(first, second, distance) == order
    assert pair(second, first, distance) == order


def test_no_atom_is_bonded_to_itself_and_large_batches_equal_small_ones():
    rng = np.random.default_rng(0)
    elements, positions = rng.choice([0, 1, 6, 7, 8, 9], (1500, 6)), rng.normal(size=(1500, 6, 3))
    orders = bond_orders(elements, positions)
    assert orders.max() == 3 and not orders[:, range(6), range(6)].any()
    assert np.array_equal(orders, orders.transpose(0, 2, 1))
    assert np.array_equal(orders[1100:1200], bond_orders(elements[1100:1200], positions[1100:1200]))


def test_names_of_the_types():
    assert HEAVY.names == ["C", "CH", "CH2", "CH3", "N", "NH", "NH2", "O", "OH", "F"]
    assert EXPLICIT.names == ["H", "C", "N", "O", "F"]


def test_a_good_molecule():
    mol = ethanol()
    assert is_valid(mol) and is_connected(mol) and is_stable(mol)
    assert stable_atoms(mol) == (3, 3) and molecule_key(mol) == "CCO"
    assert mol.GetConformer().Is3D() and mol.GetConformer().GetPositions()[2].tolist() == [1.53, 1.43, 0]


def test_a_missing_bond_leaves_two_radicals_and_two_pieces():
    mol = ethanol(last=3.0)
    assert not is_valid(mol) and not is_connected(mol) and not is_stable(mol)
    assert stable_atoms(mol) == (1, 3) and molecule_key(mol) == ""


def test_the_key_of_pieces_of_one_size_does_not_depend_on_their_order():
    kinds = [(C, 3), (C, 3), (C, 3), (O, 1)]
    positions = np.array([[0, 0, 0], [1.53, 0, 0], [5, 0, 0], [6.43, 0, 0]])
    assert molecule_key(heavy(kinds, positions)) == molecule_key(heavy(kinds[::-1], positions)) != ""


def test_too_many_bonds_are_not_valid_and_stay_unsanitised():
    mol = heavy([(C, 3), (C, 3), (C, 3)], [[0, 0, 0], [1.5, 0, 0], [3.0, 0, 0]])
    assert not is_valid(mol) and is_connected(mol) and stable_atoms(mol) == (2, 3) and molecule_key(mol) == ""
    assert mol.GetNumBonds() == 2


def test_nothing_is_not_a_molecule():
    mol = build(np.zeros((1, 3), int), np.zeros((1, 3, 3)), np.array([0]), HEAVY)[0]
    assert not is_valid(mol) and not is_connected(mol) and not is_stable(mol) and molecule_key(mol) == ""


def test_padding_does_not_matter():
    types = np.array([[3, 2, 8, 9, 9], [3, 2, 8, 0, -1]])
    positions = np.zeros((2, 5, 3))
    positions[:, 1, 0], positions[:, 2] = 1.53, [1.53, 1.43, 0]
    assert [molecule_key(mol) for mol in build(types, positions, np.array([3, 3]), HEAVY)] == ["CCO", "CCO"]


def test_what_was_found_survives_pickling():
    for mol in (ethanol(), ethanol(3.0), heavy([(C, 3)] * 3, [[0, 0, 0], [1.5, 0, 0], [3, 0, 0]])):
        molecule_key(mol)
        copy = pickle.loads(pickle.dumps(mol))
        assert copy.GetPropsAsDict() == mol.GetPropsAsDict()
        assert (is_valid(copy), is_stable(copy), molecule_key(copy)) == (
            is_valid(mol),
            is_stable(mol),
            molecule_key(mol),
        )
        assert copy.GetNumConformers() == 1


@pytest.mark.parametrize(
    ("smiles", "valid", "stable"),
    [
        ("c1cc[nH]c1", True, True),
        ("C[CH2]", False, False),
        ("[NH4+]", True, True),
        ("CC(=O)[O-].O", True, True),
        ("CS(=O)(=O)NP(=O)(O)O", True, True),
    ],
)
def test_molecules_made_elsewhere_are_judged_too(smiles, valid, stable):
    mol = Chem.MolFromSmiles(smiles)
    assert (is_valid(mol), is_stable(mol), is_connected(mol)) == (valid, stable, "." not in smiles)


def test_unsanitised_molecules_made_elsewhere_are_judged_too():
    mol = Chem.MolFromSmiles("CC(C)(C)(C)C", sanitize=False)
    assert not is_valid(mol) and stable_atoms(mol) == (5, 6)


@pytest.mark.parametrize("vocabulary", [HEAVY, EXPLICIT])
def test_any_positions_make_some_molecule(vocabulary):
    rng = np.random.default_rng(1)
    types = rng.integers(0, len(vocabulary), (200, 9))
    mols = build(types, rng.normal(size=(200, 9, 3)), rng.integers(1, 10, 200), vocabulary)
    assert 0 < sum(map(is_valid, mols)) < 200
    assert all((molecule_key(mol) != "") == is_valid(mol) for mol in mols)


def test_rotation_and_order_of_the_nodes_leave_the_key():
    rng = np.random.default_rng(2)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    x = np.array([[0, 0, 0], [1.53, 0, 0], [1.53, 1.43, 0]]) @ turn
    order = [2, 0, 1]
    mol = heavy([[(C, 3), (C, 2), (O, 1)][i] for i in order], x[order])
    assert molecule_key(mol) == "CCO" and is_stable(mol)


@pytest.fixture(scope="module")
def qm9():
    with np.load(QM9, allow_pickle=False) as file:
        charges, positions, counts = file["charges"], file["positions"], file["num_atoms"]
    types = np.searchsorted(EXPLICIT.elements, charges)  # elements ascend in EDM's order
    return types, positions, counts


def shares(mols):
    atoms = np.array([stable_atoms(mol) for mol in mols]).sum(0)
    return atoms[0] / atoms[1], np.mean([is_stable(mol) for mol in mols])


@needs_qm9
def test_known_answers_of_qm9(qm9):
    mols = build(*qm9, EXPLICIT)
    assert len(mols) == 13_083
    atom, molecule = shares(mols)
    keys = [molecule_key(mol) for mol in mols if is_valid(mol)]
    assert round(100 * atom, 3) == 99.344
    assert round(100 * molecule, 3) == 95.215
    assert round(100 * len(keys) / len(mols), 3) == 97.738
    assert len(set(keys)) == len(keys)


@needs_qm9
@pytest.mark.parametrize(
    ("sigma", "atom", "molecule"), [(0.01, 0.989, 0.924), (0.02, 0.969, 0.782), (0.05, 0.788, 0.103)]
)
def test_known_answers_of_jittered_qm9(qm9, sigma, atom, molecule):
    types, positions, counts = (array[:1500] for array in qm9)
    noise = np.random.default_rng(0).normal(size=positions.shape)
    found = shares(build(types, positions + sigma * noise, counts, EXPLICIT))
    # Other noise than that of the known answers: four standard errors of 1,500 molecules.
    assert found[1] == pytest.approx(molecule, abs=4 * (molecule * (1 - molecule) / 1500) ** 0.5)
    assert found[0] == pytest.approx(atom, abs=0.006)
