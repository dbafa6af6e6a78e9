"""Docking by AutoDock Vina: with the program where it is installed, and with stand-ins for its answers."""

import importlib.util
import json
import shutil
import sys

import numpy as np
import pytest
from mols import BAD, GOOD, PIECES, embedded
from rdkit import Chem
from rdkit.Chem import rdDistGeom

from domains.molecules.files import write_molecules
from domains.molecules.rewards import Gated, Vina
from domains.molecules.rewards.pdbqt import parse_affinities
from domains.molecules.view import view
from graft.errors import GraftError
from graft.io.fingerprint import fingerprint_hash
from graft.reward import scored_forms

needs_meeko = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("meeko", "gemmi")),
    reason="meeko prepares ligands for Vina: pip install 'graft-diffusion[docking]'",
)
needs_vina = pytest.mark.skipif(shutil.which("vina") is None, reason="the program vina is not installed")

# Vina's answer with the ligands where they came from; a stand-in for the program needs no engine
STUB = """
import sys
for name in ("--receptor", "--center_x", "--size_z", "--exhaustiveness", "--seed", "--cpu"):
    assert name in sys.argv, name

def write(ligand, out):
    text = open(ligand).read()
    with open(out, "w") as out:
        for i, affinity in enumerate(AFFINITIES):
            out.write(f"MODEL {i + 1}\\nREMARK VINA RESULT: {affinity:>9} 0.000 0.000\\n{text}ENDMDL\\n")

if "--ligand" in sys.argv:
    words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
    write(words["--ligand"], words["--out"])
else:
    end = sys.argv.index("--dir")
    names = sys.argv[sys.argv.index("--batch") + 1 : end]
    for name in names:
        write(name, f"{sys.argv[end + 1]}/{name[:-6]}_out.pdbqt")
"""


def receptor_of(mol):
    """A rigid receptor as PDBQT: polar hydrogens alone, Vina's types of atoms."""
    lines = []
    for atom, xyz in zip(mol.GetAtoms(), mol.GetConformer().GetPositions(), strict=True):
        symbol = atom.GetSymbol()
        if symbol == "H" and atom.GetNeighbors()[0].GetSymbol() == "C":
            continue
        kind = "A" if symbol == "C" and atom.GetIsAromatic() else {"H": "HD", "O": "OA", "S": "SA"}.get(symbol, symbol)
        place = "".join(f"{x:8.3f}" for x in xyz)
        lines.append(f"ATOM  {len(lines) + 1:5d}  {symbol:<3} UNL A   1    {place}  1.00  0.00    +0.000 {kind:<2}")
    return "\n".join([*lines, "TER", ""])


@pytest.fixture(scope="module")
def peptide():
    mol = Chem.AddHs(Chem.MolFromSequence("GFWK"))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=1) == 0
    return receptor_of(mol)


@pytest.fixture
def made(tmp_path, monkeypatch, peptide):
    """Gives the reward; with a stand-in for Vina that writes ``affinities`` or runs ``code``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "receptor.pdbqt").write_text(peptide)

    def make(affinities=None, code=None, **settings):
        if affinities is not None or code is not None:
            path = tmp_path / "stub"
            path.write_text(f"#!{sys.executable}\n" + (code or STUB.replace("AFFINITIES", repr(affinities))))
            path.chmod(0o755)
            settings["program"] = str(path)
        box = {} if "ligand" in settings else {"center": [0.0, 0.0, 0.0], "size": [14.0, 14.0, 14.0]}
        return Vina(**{"receptor": "receptor.pdbqt", **box, **settings})

    return make


@needs_meeko
@needs_vina
def test_vina_docks(made, tmp_path):
    reward = made(exhaustiveness=1, modes=2, poses="poses")
    reward.setup()
    ethanol = embedded("CCO")
    scores = reward([ethanol, BAD])
    assert -4 < scores.values[0] < -0.5 and scores.failures == {1: "the molecule is not valid"}
    assert [path.name for path in (tmp_path / "poses").iterdir()] == [reward.pose_file(ethanol).name]
    poses = [*Chem.SDMolSupplier(str(reward.pose_file(ethanol)), removeHs=False)]
    assert 1 <= len(poses) <= 2 and all(Chem.MolToSmiles(Chem.RemoveHs(pose)) == "CCO" for pose in poses)
    assert float(poses[0].GetProp("affinity")) == scores.values[0] and poses[0].GetNumAtoms() == 9
    assert abs(poses[0].GetConformer().GetPositions()).max() < 7 + 2  # in the box, but for hydrogens
    assert made(exhaustiveness=1, modes=2).score(ethanol) == scores.values[0]  # the seed decides
    tight = made(exhaustiveness=1, size=[2.0, 2.0, 2.0])([embedded("CCCCCC")])
    assert "does not fit into the box" in tight.failures[0] or "no pose" in tight.failures[0]


@needs_meeko
@pytest.mark.parametrize("workers", [1, 2])
def test_poses_and_scores(made, workers):
    reward = made(["-5.5", "-4.25"], poses="poses", workers=workers)
    reward.setup()
    assert reward([GOOD, PIECES, embedded("CC"), GOOD]).values == pytest.approx(
        [-5.5, float("nan"), -5.5, -5.5], nan_ok=True
    )
    path = reward.pose_file(GOOD)
    poses = [*Chem.SDMolSupplier(str(path))]
    assert [float(pose.GetProp("affinity")) for pose in poses] == [-5.5, -4.25]
    assert poses[0].GetProp("SMILES") == "CCO"
    made(["-3"], poses="poses").score(GOOD)  # a worse docking does not replace it
    assert len([*Chem.SDMolSupplier(str(path))]) == 2
    made(["-7"], poses="poses").score(GOOD)
    assert [pose.GetProp("affinity") for pose in Chem.SDMolSupplier(str(path))] == ["-7"]


@needs_meeko
@needs_vina
def test_a_batch_gives_the_affinities_of_single_dockings(made):
    items = [embedded(smiles) for smiles in ("CCO", "c1ccccc1O", "CC(=O)NC", "C1CCOC1")]
    items.insert(2, BAD)
    single = made(exhaustiveness=1, batch=1)(items)
    for workers, batch in ((1, 16), (2, 2)):
        together = made(exhaustiveness=1, batch=batch, workers=workers)(items)
        np.testing.assert_array_equal(together.values, single.values)
        assert together.failures == single.failures == {2: "the molecule is not valid"}


@needs_meeko
@pytest.mark.parametrize("end", ["sys.exit(3)", "__import__('time').sleep(60)"], ids=["fails", "hangs"])
def test_a_batch_that_ends_early(made, tmp_path, end):
    """Its finished molecules count, but for the last, which may be incomplete; the rest is docked alone."""
    code = STUB.replace("AFFINITIES", "[-5.5 if '--ligand' in sys.argv else -4.5]")
    code = code.replace("in names:", "in names[:3]:")
    code = code.replace("import sys\n", "import sys\nopen(sys.argv[0] + '.calls', 'a').write('x')\n", 1)
    reward = made(code=code + f"    {end}\n", timeout=10 if "sleep" in end else 60, poses="poses")
    items = [embedded(smiles) for smiles in ("CO", "CC", "CCC", "CCCC", "CCCCC")]
    scores = reward([*items[:2], BAD, *items[2:]])
    np.testing.assert_array_equal(scores.values, [-4.5, -4.5, np.nan, -5.5, -5.5, -5.5])
    assert scores.failures == {2: "the molecule is not valid"}
    assert (tmp_path / "stub.calls").read_text() == "x" * 4  # the batch, and three molecules alone
    assert len(list((tmp_path / "poses").iterdir())) == 5


@needs_meeko
def test_the_scored_form_is_the_pose(made, tmp_path):
    """The pose comes from the file of poses, or is docked again; the receptor's heavy atoms near it are shown."""
    receptor = [line.split() for line in (tmp_path / "receptor.pdbqt").read_text().splitlines() if "ATOM" in line]
    for poses in (None, "poses"):
        reward = made(["-5.5", "-4.25"], poses=poses)
        reward.score(GOOD)
        if poses is not None:
            (tmp_path / "stub").write_text("#!/bin/sh\nexit 1\n")  # it cannot dock again: the file must be read
        form = reward.scored_form(GOOD)
        assert form.value == -5.5 and Chem.MolToSmiles(Chem.RemoveHs(form.item)) == "CCO"
        around = json.loads(form.item.GetProp("_around"))
        ligand = form.item.GetConformer().GetPositions()
        near = [
            line
            for line in receptor
            if line[-1] != "HD" and np.linalg.norm(ligand - np.array(line[5:8], float), axis=1).min() < 5
        ]
        assert len(around["atoms"]) == len(near) > 5 and len(around["bonds"]) >= len(near) - 3
        assert {atom[0] for atom in around["atoms"]} <= {"C", "N", "O"}
        assert scored_forms(Gated(reward), [GOOD, BAD])[0][1][1] is None
    writing = tmp_path / "pose.sdf"
    write_molecules([form.item], writing)
    assert "_around" not in writing.read_text() and "CCO" in writing.read_text()
    assert '"around":{"atoms":[[' in view([form.item])


@needs_meeko
def test_benzene_has_aromatic_atoms(made):
    """Vina's type of a carbon decides its affinity, and generated molecules are kekulised."""
    code = "import sys\nsys.exit(sys.argv[sys.argv.index('--ligand') + 1] and open('ligand.pdbqt').read().count(' A '))"
    assert made(code=code, relax=False)([embedded("c1ccncc1C")]).failures == {0: "Vina receptor ended with status 5"}


@needs_meeko
def test_rings_stay_closed(made):
    """The attraction that closes an opened ring counts in Vina's affinity."""
    code = "import sys\nsys.exit(9 if ' CG0' in open('ligand.pdbqt').read() else 4)"
    assert made(code=code)([embedded("C1CCCCCN1")]).failures == {0: "Vina receptor ended with status 4"}


@needs_meeko
@pytest.mark.parametrize(
    ("affinities", "code", "message"),
    [
        (["0.000"], None, "does not fit into the box: its best affinity is 0 kcal/mol"),
        (["12.5"], None, "does not fit into the box: its best affinity is 12.5 kcal/mol"),
        ([], None, "Vina found no pose in the box"),
        (["nan"], None, "Vina gave an affinity of nan"),
        (["****"], None, "'****' where an affinity"),
        (None, "pass", "Vina found no pose in the box"),
        (
            None,
            "import sys; sys.exit('\\nAtom type B is not valid\\n > ATOM B')",
            "1: Atom type B is not valid > ATOM B",
        ),
        (None, "import time; time.sleep(60)", "gave no answer within"),
    ],
    ids=["zero", "positive", "no pose", "nan", "asterisks", "no file", "refused", "hangs"],
)
def test_what_costs_the_molecule_alone(made, affinities, code, message):
    scores = made(affinities, code, timeout=1 if code and "sleep" in code else 60)([GOOD])
    assert message in scores.failures[0] and scores.values[0] != scores.values[0]


def test_affinities():
    line = "REMARK VINA RESULT:    {}      0.000      0.000\n"
    assert parse_affinities("MODEL 1\n" + line.format("-7.3") + "MODEL 2\n" + line.format("-6.9")) == [-7.3, -6.9]
    with pytest.raises(ValueError, match="no pose"):
        parse_affinities("REMARK INTER: -3\n")


def test_a_gate_gives_the_worst_value(made):
    assert Gated(made(["-5"])).score(BAD) == 0


def test_the_box_around_a_ligand(made, tmp_path):
    mol = embedded("CCO")
    x = mol.GetConformer().GetPositions()
    for name, text in (
        ("a.sdf", Chem.MolToMolBlock(mol) + "$$$$\n"),
        ("a.pdb", Chem.MolToPDBBlock(mol)),
        ("a.pdbqt", receptor_of(mol)),
    ):
        (tmp_path / name).write_text(text)
        center, size = made(ligand=name, margin=4.0).box()
        assert center == pytest.approx(((x.min(0) + x.max(0)) / 2).tolist(), abs=2e-3), name
        assert size == pytest.approx((x.max(0) - x.min(0) + 8).tolist(), abs=2e-3), name
    (tmp_path / "empty.sdf").write_text("")
    with pytest.raises(GraftError, match=r"empty\.sdf', which has no readable atoms"):
        made(ligand="empty.sdf").box()
    with pytest.raises(GraftError, match="no file 'missing"):
        made(ligand="missing.sdf").box()


def test_what_it_is(made, tmp_path):
    """Scores are shared between runs that dock in the same way."""
    first = fingerprint_hash(made())
    assert fingerprint_hash(made(workers=2, timeout=9, poses="poses", cpu=2, batch=1)) == first
    assert fingerprint_hash(made(seed=2)) != first != fingerprint_hash(made(size=[15.0, 14.0, 14.0]))
    (tmp_path / "receptor.pdbqt").write_text("ATOM")
    assert fingerprint_hash(made()) != first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"receptor": "receptor.pdb"}, r"it must be a \.pdbqt file"),
        ({"size": None}, "either center and size, or ligand"),
        ({"center": None, "size": None}, "either center and size, or ligand"),
        ({"ligand": "a.sdf", "center": [0, 0, 0], "size": [9, 9, 9]}, "either center and size, or ligand"),
        ({"ligand": "a.xlsx"}, r"a.xlsx'; its name must end in"),
        ({"center": [0.0, 0.0]}, "center is .*three finite numbers"),
        ({"center": [0.0, 0.0, float("nan")]}, "center is .*three finite numbers"),
        ({"size": [9.0, 9.0, 0.0]}, "all edges must be above 0"),
        ({"exhaustiveness": 0}, "exhaustiveness is 0; it must be at least 1"),
        ({"seed": 0}, "seed is 0; it must be at least 1"),
        ({"batch": 0}, "batch is 0; it must be at least 1"),
        ({"modes": 0}, "modes is 0; it must be at least 1"),
        ({"timeout": 0}, "timeout is 0; it must be above 0"),
        ({"ligand": "a.sdf", "margin": -1.0}, "margin is -1; it must be at least 0"),
    ],
)
def test_arguments(made, settings, message):
    with pytest.raises(GraftError, match=message):
        made(**settings)


def test_a_missing_program_or_package(made, monkeypatch):
    with pytest.raises(GraftError, match=r"program is 'vina-that-is-missing'; .*autodock-vina"):
        made(program="vina-that-is-missing").setup()
    monkeypatch.setitem(sys.modules, "meeko", None)
    with pytest.raises(GraftError, match=r"package 'meeko'.*graft-diffusion\[docking\]"):
        made([]).setup()


@needs_meeko
def test_what_setup_says_of_the_receptor(made, tmp_path):
    with pytest.raises(GraftError, match=r"box is \d+\.\d Å away from the receptor"):
        made([], center=[0.0, 0.0, 100.0]).setup()
    for text, message in (("ROOT\nENDROOT\n", "ligand's file with a ROOT"), ("nothing\n", "which has no atoms")):
        (tmp_path / "receptor.pdbqt").write_text(text)
        with pytest.raises(GraftError, match=message):
            made([]).setup()
    (tmp_path / "receptor.pdbqt").unlink()
    with pytest.raises(GraftError, match=r"no file 'receptor\.pdbqt'"):
        made([]).setup()
