"""Fixed parts of a molecule: its number of atoms, and a fragment that stays exactly in place."""

import functools

import numpy as np
import pytest
import torch
from mols import embedded
from rdkit import Chem

from domains.molecules import Molecules, qm9
from domains.molecules import fragment as fragments
from domains.molecules.backbone import EGNN
from domains.molecules.conformers import embed_all
from domains.molecules.files import write_molecules
from domains.molecules.size_distribution import size_probabilities
from domains.molecules.vocabulary import DRUG_LIKE, EXPLICIT, HEAVY
from graft.accept import AcceptAll
from graft.core import seeding
from graft.core.datatypes import SampleRequest
from graft.errors import GraftError
from graft.io.fingerprint import fingerprint_hash
from graft.objectives import PolicyGradient, RoundSpec
from graft.process import Gaussian, MaskProjection, MultiFieldProcess, ZeroCenterOfMass
from graft.process.schedules import PolynomialSchedule


def module(atoms=6, vocabulary=HEAVY, prediction="x0", weights=None, **settings):
    torch.manual_seed(0)
    gaussian = functools.partial(Gaussian, PolynomialSchedule(), warp=2)
    x = gaussian(prediction, [atoms, 3], projection=ZeroCenterOfMass())
    h = gaussian("logits", [atoms, len(vocabulary)], one_hot_scale=0.2, projection=MaskProjection())
    net = EGNN(len(vocabulary), hidden_dim=16, num_layers=2)
    made = Molecules(
        net, MultiFieldProcess({"x": x, "h": h}), convention=vocabulary.name, steps=6, weights=weights, **settings
    )
    made.dataset_statistics = {"histogram": torch.tensor([0, 0, 1, 2, 3, 4, 0][: atoms + 1] + [0] * (atoms - 6))}
    return made


def counts(made, n=4000):
    return made.sample_conditions(n, seeding.make_generator(0, "sizes"))["mask"].sum(1).long()


def drawn(made, n=32):
    condition = made.sample_conditions(n, seeding.make_generator(0, "drawn"))
    return made.decode(made.predict_step(SampleRequest(condition, ("test",))).state, condition)


def test_numbers_of_atoms():
    assert set(counts(module(sizes=4)).tolist()) == {4}
    some = torch.bincount(counts(module(sizes={3: 1, 5: 3}))).tolist()
    assert set(np.nonzero(some)[0]) == {3, 5} and some[5] / 4000 == pytest.approx(0.75, abs=0.03)  # 4.4 deviations
    assert torch.bincount(counts(module()), minlength=7)[2:6].div(4000).tolist() == pytest.approx(
        [0.1, 0.2, 0.3, 0.4], abs=0.035
    )
    known = size_probabilities("qm9", 29, None)
    assert known.sum() == 100_000 and known[19] == qm9.SIZES[19]
    assert all(mol.GetNumAtoms() == 4 for mol in drawn(module(sizes=4)))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [(9, "asks for 9 atoms"), (0, "asks for 0 atoms"), ({3: -1.0}, "share -1"), ({3: 0.0}, "above 0")],
    ids=["too many", "none", "negative", "nothing"],
)
def test_numbers_that_cannot_be(sizes, message):
    with pytest.raises(GraftError, match=message):
        module(sizes=sizes)


def test_without_a_histogram():
    made = module()
    made.dataset_statistics = {}
    with pytest.raises(GraftError, match=r"model\.sizes"):
        counts(made)


@pytest.fixture
def ring(tmp_path):
    """Cyclopropane in a place and a direction of its own."""
    mol = Chem.Mol(embedded("C1CC1", EXPLICIT))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    mol.GetConformer().SetPositions(mol.GetConformer().GetPositions() @ turn + [3.0, -2.0, 5.0])
    write_molecules([mol], tmp_path / "ring.sdf")
    return str(tmp_path / "ring.sdf")


@pytest.mark.parametrize("vocabulary", [HEAVY, EXPLICIT], ids=["heavy", "explicit"])
def test_a_fragment_stays_where_it_is(ring, vocabulary):
    """The fragment stays for any output of the network, which is untrained here."""
    made = module(vocabulary=vocabulary, fragment=ring)
    given = fragments.read_fragment(ring, vocabulary)
    assert len(given) == 3 and given.elements.tolist() == [6, 6, 6]
    mols = drawn(made)
    assert {mol.GetNumAtoms() for mol in mols} == {4, 5}
    for mol in mols:
        np.testing.assert_array_equal(mol.GetConformer().GetPositions()[:3], given.positions.numpy())
        assert [atom.GetAtomicNum() for atom in mol.GetAtoms()][:3] == [6, 6, 6]
    rest = np.array([mol.GetConformer().GetPositions()[3] for mol in mols])
    assert rest.std(0).min() > 0.05 and np.isfinite(rest).all()


def test_the_centre_of_a_state_stays_zero(ring):
    made = module(fragment=ring)
    condition = made.sample_conditions(5, seeding.make_generator(0, "a"))
    drawn = made.predict_step(SampleRequest(condition, ("test",)))
    centre = (drawn.state["x"] * condition["mask"][..., None]).sum(1)
    assert centre.abs().max() < 1e-4
    assert drawn.denoiser_calls == made.policy.denoiser_calls("tuned") == 5 * 4 + 1  # each step but the last four times
    shape = drawn.state["x"][:, :3] - drawn.state["x"][:, :3].mean(1, keepdim=True)
    assert (shape - condition["kept_x"][:, :3]).abs().max() < 1e-4


class Knows(torch.nn.Module):
    """The exact estimate of x_0 where x_0 is one Gaussian: positions N(0, 1) in the subspace, types all alike."""

    def forward(self, state, time, condition):
        alpha, sigma = PolynomialSchedule().alpha_sigma(time.double())
        share = (alpha / (alpha**2 + sigma**2)).float()[:, None, None]
        return {"x": share * state["x"], "h": torch.zeros_like(state["h"])}


def test_the_rest_has_its_own_distribution(ring):
    """Atoms that do not feel the fragment have the distribution that they have without it, around the same centre."""
    made = module(fragment=ring, sizes=5, resample=2)
    made.policy.backbone, made.policy.steps = Knows(), 80
    condition = made.sample_conditions(2000, seeding.make_generator(0, "distribution"))
    x = made.predict_step(SampleRequest(condition, ("test",))).state["x"]
    apart = (x[:, 3] - x[:, 4]) / 2**0.5  # N(0, 1) in each coordinate
    assert apart.std().item() == pytest.approx(1, abs=0.06) and apart.mean().abs() < 0.05
    between = x[:, 3:5].mean(1) - x[:, :3].mean(1)  # var 1/2 + 1/3: means of two and of three atoms
    assert between.std().item() == pytest.approx((5 / 6) ** 0.5, abs=0.06)


def test_fragments_that_cannot_be(ring, tmp_path):
    with pytest.raises(GraftError, match="no sample has more"):
        counts(module(fragment=ring, sizes=3))
    with pytest.raises(GraftError, match="predict x0 and logits"):
        module(fragment=ring, prediction="v")
    with pytest.raises(GraftError, match=r"model\.resample"):
        module(fragment=ring, resample=0)
    with pytest.raises(GraftError, match="no file"):
        module(fragment=str(tmp_path / "none.sdf"))
    (tmp_path / "a.csv").write_text("smiles\nCC\n")
    with pytest.raises(GraftError, match=r"\.sdf or \.xyz"):
        module(fragment=str(tmp_path / "a.csv"))
    (tmp_path / "bad.sdf").write_text("nonsense\n\n\nx\n$$$$\n")
    with pytest.raises(GraftError, match="cannot be used: unparseable"):
        module(fragment=str(tmp_path / "bad.sdf"))
    (tmp_path / "empty.sdf").write_text("")
    with pytest.raises(GraftError, match="no SDF file, or an empty one"):
        module(fragment=str(tmp_path / "empty.sdf"))
    (tmp_path / "s.xyz").write_text("2\n\nC 0 0 0\nS 1.8 0 0\n")
    with pytest.raises(GraftError, match=r"of C, N, O, F, with .* and has C, S"):
        module(fragment=str(tmp_path / "s.xyz"))
    long = Chem.Mol(embedded("CC", EXPLICIT))
    long.GetConformer().SetPositions(long.GetConformer().GetPositions() * 1.3)
    write_molecules([long], tmp_path / "long.sdf")
    with pytest.raises(GraftError, match=r"C1 and C2 are 1\.9\d Å apart.*no bond"):
        module(fragment=str(tmp_path / "long.sdf"))


def saved(smiles, path, stretch=None, kekulise=True):
    """The molecule in MMFF94's geometry as SDF, its first two atoms ``stretch`` Å further apart."""
    mol = embed_all([smiles], cache=False)[0].molecule()
    if stretch is not None:
        x = mol.GetConformer().GetPositions()
        x[0] += stretch * (x[0] - x[1]) / np.linalg.norm(x[0] - x[1])
        mol.GetConformer().SetPositions(x)
    with Chem.SDWriter(str(path)) as writer:
        writer.SetKekulize(kekulise)
        writer.write(mol)
    return str(path)


@pytest.mark.parametrize("kekulise", [True, False], ids=["kekulised", "aromatic"])
def test_orders_of_a_fragments_bonds(tmp_path, kekulise):
    """With hydrogens as nodes, aromatic bonds may be read as any Kekulé form, and as no other."""
    path = tmp_path / "a.sdf"
    with pytest.raises(GraftError, match=r"1\.39 Å apart, .* is a single bond where the file has an aromatic bond"):
        fragments.read_fragment(saved("c1ccccc1", path, kekulise=kekulise), EXPLICIT)
    for smiles in ("c1cc[nH]c1", "c1ccoc1", "Cc1nnco1", "CC=CC#N", "NC(C)=O", "C1CC1"):
        found = fragments.read_fragment(saved(smiles, path, kekulise=kekulise), EXPLICIT)
        assert len(found) == Chem.MolFromSmiles(smiles).GetNumAtoms()
    with pytest.raises(GraftError, match=r"C1 and O2 are 1\.\d+ Å .* a single bond where the file has a double bond"):
        fragments.read_fragment(saved("C=O", path, stretch=0.1), EXPLICIT)


@pytest.mark.parametrize("kekulise", [True, False], ids=["kekulised", "aromatic"])
@pytest.mark.parametrize("smiles", ["c1ccccc1", "c1ccc2[nH]ccc2c1", "Cc1ccncc1F", "O=c1cc[nH]cc1", "CC(=O)[O-]"])
def test_rings_of_drugs_are_fragments(tmp_path, smiles, kekulise):
    """With hydrogens in the types only the bonded pairs are compared."""
    found = fragments.read_fragment(saved(smiles, tmp_path / "a.sdf", kekulise=kekulise), DRUG_LIKE)
    assert len(found) == Chem.MolFromSmiles(smiles).GetNumAtoms()
    for atom, row in zip(Chem.MolFromSmiles(smiles).GetAtoms(), found.allowed, strict=True):
        kinds = [kind for kind, allowed in zip(DRUG_LIKE.kinds, row.tolist(), strict=True) if allowed]
        assert {(kind.element, kind.charge) for kind in kinds} == {(atom.GetAtomicNum(), atom.GetFormalCharge())}
        assert {kind.hydrogens for kind in kinds} == set(range(atom.GetTotalNumHs() + 1))


def test_attachment_points_say_where_the_rest_grows(tmp_path):
    """Phenol with a point in para: no atom but its neighbour may have another bond."""
    mol = embed_all(["Cc1ccc(O)cc1"], cache=False)[0].molecule()
    scaffold = Chem.RWMol(Chem.RemoveHs(mol))
    scaffold.GetAtomWithIdx(0).SetAtomicNum(0)
    with Chem.SDWriter(str(tmp_path / "a.sdf")) as writer:
        writer.write(scaffold)
    found = fragments.read_fragment(str(tmp_path / "a.sdf"), DRUG_LIKE)
    names = [DRUG_LIKE.names[row.nonzero().item()] for row in found.allowed]
    assert names == ["C", "CH", "CH", "C", "OH", "CH", "CH"]
    with pytest.raises(GraftError, match="attachment points"):
        fragments.read_fragment(str(tmp_path / "a.sdf"), EXPLICIT)


@pytest.mark.parametrize("shift", [0, 1])
def test_both_kekule_forms_are_the_aromatic_ring(tmp_path, shift):
    """Benzene with alternating bonds is read as in the file, in either of its two forms."""
    mol = embed_all(["c1ccccc1"], cache=False)[0].molecule()
    angle = np.deg2rad([0, 54, 120, 174, 240, 294])  # sides of 1.27 and 1.53 Å
    for start, radius in ((0, 1.4), (6, 2.5)):
        for i, a in enumerate(angle):
            mol.GetConformer().SetAtomPosition(start + i, [radius * np.cos(a), radius * np.sin(a), 0])
    Chem.Kekulize(mol, clearAromaticFlags=True)
    for bond in mol.GetBonds():
        i, j = sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))
        if j < 6:
            first = (i if j - i == 1 else j) % 2
            bond.SetBondType(Chem.BondType.DOUBLE if first == shift else Chem.BondType.SINGLE)
    with Chem.SDWriter(str(tmp_path / "ring.sdf")) as writer:
        writer.SetKekulize(False)
        writer.write(mol)
    assert len(fragments.read_fragment(str(tmp_path / "ring.sdf"), EXPLICIT)) == 6


def test_what_is_given_tells_draws_apart(ring):
    names = [
        fingerprint_hash(module(**settings).cache_key_extras) for settings in ({}, {"sizes": 4}, {"fragment": ring})
    ]
    assert len(set(names)) == 3 and module().cache_key_extras is None
    assert fingerprint_hash(module(fragment=ring).cache_key_extras) != fingerprint_hash(
        module(fragment=ring, resample=2).cache_key_extras
    )


def test_policy_gradients_are_refused(ring):
    made = module(fragment=ring, objective=PolicyGradient())
    with pytest.raises(GraftError, match="nothing of a sample may be given"):
        made.objective.check(made.policy, RoundSpec("current", "current", True, AcceptAll(deduplicate=False)))
