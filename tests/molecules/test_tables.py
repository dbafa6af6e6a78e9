"""Tables and files of chemists: each molecule is read correctly, or rejected with its true reason."""

import csv
import gzip
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdDepictor, rdDistGeom, rdForceFieldHelpers

from domains.molecules import entries, records, scored_files, sources
from domains.molecules.data import MoleculeData
from domains.molecules.scored_files import Options, ScoredMolecules
from domains.molecules.standardise import neutralised
from domains.molecules.vocabulary import DRUG_LIKE, EXPLICIT, HEAVY, Vocabulary
from graft.errors import GraftError

CASES = Path(__file__).parents[2].parent / "shared/cases/molecules"


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))


def read(
    path: Path, score: str = "pIC50", vocabulary: Vocabulary = EXPLICIT, nodes: int = 29, **options: Any
) -> ScoredMolecules:
    return scored_files.read_scored_molecules(path, score, vocabulary, nodes, Options(**options))


def table(path: Path, text: str, encoding: str = "utf-8") -> Path:
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def embedded(smiles: str) -> Any:
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert rdDistGeom.EmbedMolecule(mol, randomSeed=0) == 0
    rdForceFieldHelpers.MMFFOptimizeMolecule(mol)
    return mol


Atom = tuple[str, Sequence[float]]


def block(atoms: Sequence[Atom], bonds: Sequence[tuple[int, int, int]], title: str = "") -> str:
    """A record of an SDF, without properties."""
    lines = [title, "     graft          3D", "", f"{len(atoms):3d}{len(bonds):3d}  0  0  0  0  0  0  0  0999 V2000"]
    for symbol, (x, y, z) in atoms:
        lines.append(f"{x:10.4f}{y:10.4f}{z:10.4f} {symbol:<3} 0  0  0  0  0  0  0  0  0  0  0  0")
    lines += [f"{a:3d}{b:3d}{order:3d}  0" for a, b, order in bonds]
    return "\n".join([*lines, "M  END", ""])


def order_of(bond: Any) -> int:
    return int(bond.GetBondTypeAsDouble())


def of(mol: Any, bonded: bool = True, order: Callable[[Any], int] = order_of) -> str:
    atoms = [
        (atom.GetSymbol(), place)
        for atom, place in zip(mol.GetAtoms(), mol.GetConformer().GetPositions().tolist(), strict=True)
    ]
    bonds = [(bond.GetBeginAtomIdx() + 1, bond.GetEndAtomIdx() + 1, order(bond)) for bond in mol.GetBonds()]
    return block(atoms, bonds if bonded else [])


def sdf(path: Path, *blocks: str, score: str = "pIC50") -> Path:
    text = "".join(f"{each}>  <{score}>\n{i + 1}\n\n$$$$\n" for i, each in enumerate(blocks))
    return table(path, text)


# Tables

EXPORT = [
    (
        "Molecule ChEMBL ID",
        "Smiles",
        "Standard Type",
        "Standard Relation",
        "Standard Value",
        "Standard Units",
        "Comment",
    ),
    ("C1", "CCN", "IC50", "'='", "80.0", "nM", "binding; pH 7"),
    ("C1", "CCN", "IC50", "'>'", "20000.0", "nM", 'said "weak"'),
    ("C1", "CCN", "Inhibition", "'='", "30", "%", ""),
    ("C2", "CC=O", "IC50", "'='", "1.5", "uM", ""),
    ("C3", "CCO", "Ki", "'='", "12", "nM", ""),
    ("C4", "COC", "IC50", "'='", "7", "nM", "two\nlines"),
]


def export(path: Path, delimiter: str = ";", encoding: str = "utf-8-sig") -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(EXPORT)
    return table(path, text.getvalue(), encoding)


def test_filters_choose_comparable_scores(tmp_path: Path) -> None:
    """One compound with an IC50, a bound and a percentage is not averaged over them."""
    path = export(tmp_path / "export.csv")
    chosen = {"standard_relation": "=", "standard_type": "IC50", "Standard Units": "nM"}
    found = read(path, "Standard Value", filters=chosen)
    assert dict(zip(found.molecules.keys, found.values, strict=True)) == {"CCN": 80, "COC": 7}
    assert (found.filtered, found.replicates, found.left_out) == (4, 0, [])
    assert found.notes == ["4 records removed by filters"]
    several = read(path, "standard_value", filters={"standard_type": ["IC50", "Ki"], "standard value": {"high": 80}})
    assert several.values == [80, 1.5, 12, 7]
    assert read(path, "Standard Value", filters={"Standard Value": {"low": 12, "high": 30}}).values == [30, 12]
    assert read(path, "Standard Value", filters={"Standard Value": [7, 12.0]}).values == [12, 7]


def test_averaging_without_filters_is_reported(tmp_path: Path) -> None:
    found = read(export(tmp_path / "export.csv"), "Standard Value")
    assert found.replicates == 2 and found.values[0] == pytest.approx((80 + 20000 + 30) / 3)
    message = "\n".join(found.notes)
    assert "1 molecule has replicates that differ widely, such as records 1, 2, 3 of CCN with 80, 20000, 30" in message
    for column, values in (("Type", "'IC50', 'Inhibition', 'Ki'"), ("Relation", "'=', '>'"), ("Units", "'nM', '%'")):
        assert f"Standard {column} has" in message and values in message


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"standard_typ": "IC50"}, "no column 'standard_typ' to filter by; there are: Molecule ChEMBL ID, Smiles, "),
        ({"standard_type": "EC50"}, "no record whose standard_type is 'EC50'; there are: 'IC50', 'Inhibition', 'Ki'"),
        ({"standard_type": []}, "a list of values, or"),
        ({"standard_value": {"min": 3}}, "a range has low, high or both"),
        ({"standard_value": {"low": "3"}}, "a range has low, high or both, as numbers"),
        ({"standard_type": None}, "a list of values, or"),
    ],
)
def test_filters_that_cannot_be_used(tmp_path: Path, filters: Any, message: str) -> None:
    with pytest.raises(GraftError, match=message):
        read(export(tmp_path / "export.csv"), "Standard Value", filters=filters)


def test_options_that_cannot_be_used() -> None:
    for given, message in (
        ({"largest": True}, "no option 'largest'; there are: filters, smiles_column, largest_fragment, neutralise"),
        ({"largest_fragment": "yes"}, "must be true or false"),
        ({"max_replicate_factor": 0.5}, "at least 1"),
    ):
        with pytest.raises(GraftError, match=message):
            scored_files.parse_options(given)


def test_replicates_differ_widely_by_factor_or_deviations(tmp_path: Path) -> None:
    """Molar units differ by factors, logarithms by deviations."""
    molar = [("CCO", 10), ("CCO", 110), ("CCN", 5), ("CCN", 20), ("CCC", 1e6)]
    text = "smiles,pIC50\n" + "".join(f"{smiles},{value}\n" for smiles, value in molar)
    (note,) = read(table(tmp_path / "a.csv", text)).notes
    assert note.startswith("1 molecule has") and "records 1, 2 of CCO with 10, 110" in note
    assert read(tmp_path / "a.csv", max_replicate_factor=20).notes == []
    assert "2 molecules have" in read(tmp_path / "a.csv", max_replicate_factor=2).notes[0]
    logarithms = [("CCO", 5.0), ("CCO", 7.5), ("CCN", 6.1), ("CCN", 6.3), ("CCC", 4.9), ("CCCC", 8.2)]
    text = "smiles,pIC50\n" + "".join(f"{smiles},{value}\n" for smiles, value in logarithms)
    (note,) = read(table(tmp_path / "b.csv", text)).notes
    assert note.startswith("1 molecule has") and "CCO with 5, 7.5" in note
    assert read(tmp_path / "b.csv", max_replicate_deviations=3).notes == []


def test_censored_values(tmp_path: Path) -> None:
    values = [">10000", "< 5", "'>' 3", "<=2", "≥1", ">>1e3", "~5", "5 nM", "", "inf", "6"]
    text = "smiles;pIC50\n" + "".join(f"CCO;{value}\n" for value in values)
    found = read(table(tmp_path / "a.csv", text))
    why = dict(found.left_out)
    assert all(why[number].startswith("a censored value: pIC50 is ") for number in range(1, 7))
    assert all(why[number].startswith("no score: ") for number in range(7, 11)) and found.values == [6]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt", "csv.gz", "tsv.gz", "TXT"])
@pytest.mark.parametrize("separator", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_tables_of_any_kind(tmp_path: Path, suffix: str, separator: str, encoding: str) -> None:
    rows = [("µM, or nM", "Drug"), ("3 µM", "CCO"), ("1 µM", "CCN")]
    text = "\r\n".join(separator.join(f'"{cell}"' for cell in row) for row in rows)
    path = table(tmp_path / f"a.{suffix}", text, encoding)
    found = [(record.title, record.properties["µM, or nM"]) for record in records.read_records(path, "drug")]
    assert found == [("CCO", "3 µM"), ("CCN", "1 µM")]


def test_the_column_of_smiles(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "Drug,Y\nCCO,6.5\nCCN,5.5\n")
    assert read(path, "Y", smiles_column="Drug").values == [6.5, 5.5]
    data = MoleculeData(str(path), smiles_column="Drug")
    assert len(data.train_set) + len(data.val_set) == 2
    with pytest.raises(GraftError, match=r"no column 'smiles'.*there are: Drug, Y.*smiles_column"):
        read(path, "Y")
    with pytest.raises(GraftError, match="no column 'Drugs' of SMILES; there are: Drug, Y"):
        read(path, "Y", smiles_column="Drugs")
    with pytest.raises(GraftError, match="no column 'Z'; there are: Drug, Y"):
        read(path, "Z", smiles_column="Drug")
    path = table(tmp_path / "b.txt", "n,m-value\tLigand SMILES\tKi\n3\tCCO\t5\n")
    assert read(path, "Ki").values == [5]


def test_a_bad_row_spoils_no_other(tmp_path: Path) -> None:
    """A quote without an end, a short row, a long one, and lines without anything."""
    text = 'sep=,\n\nsmiles,note,pIC50\nCCO,a,5\nCCN,"inch,6\nCCC\n\nCOC,b,7,8,9\nCC=O,"c, d",4\n'
    found = read(table(tmp_path / "a.csv", text))
    assert dict(zip(found.molecules.keys, found.values, strict=True)) == {"CCO": 5, "COC": 7, "CC=O": 4}
    assert [number for number, _ in found.left_out] == [2, 3]


# Salts, charges, isotopes, attachment points

SALTS = ["Br.NCC", "[K+].CCC([O-])=O", "C[NH2+]C", "CCO.O", "CC([O-])=O", "C1CC1"]


def test_salts_and_charges_on_request(tmp_path: Path) -> None:
    text = "smiles,pIC50\n" + "".join(f"{smiles},{i}\n" for i, smiles in enumerate(SALTS))
    path = table(tmp_path / "a.csv", text)
    found = read(path, vocabulary=HEAVY)
    assert found.molecules.keys == ["C1CC1"]
    why = dict(found.left_out)
    for number in (1, 2, 4):
        assert why[number].startswith("a salt or mixture of 2 fragments (set largest_fragment)"), why
        assert why[number].endswith(SALTS[number - 1])
    assert all(why[number].startswith("charged") and "neutralise" in why[number] for number in (3, 5))
    found = read(path, vocabulary=HEAVY, largest_fragment=True, neutralise=True)
    assert found.molecules.keys == ["CCN", "CCC(=O)O", "CNC", "CCO", "CC(=O)O", "C1CC1"] and not found.left_out
    data = MoleculeData(str(path), largest_fragment=True, neutralise=True)
    assert len(data.train_set) + len(data.val_set) == 6


def test_charges_that_no_proton_removes(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", "smiles,pIC50\nC[N+](C)(C)C,5\nCCO,5\n")
    (((_, why),), ((_, tried),)) = (read(path, vocabulary=HEAVY, neutralise=each).left_out for each in (False, True))
    assert why.startswith("charged") and tried.startswith("charged") and "set neutralise" not in tried


def test_groups_with_separated_charges() -> None:
    """A sulfone with two charges is the same molecule; a nitro group, a betaine and their structure stay."""
    for smiles, right in (
        ("C[S+2]([O-])([O-])C", "CS(C)(=O)=O"),
        ("CC[N+](=O)[O-]", "CC[N+](=O)[O-]"),
        ("C[N+](C)(C)CC([O-])=O", "C[N+](C)(C)CC(=O)[O-]"),
        ("[NH3+]CC([O-])=O", "NCC(=O)O"),
    ):
        assert Chem.MolToSmiles(neutralised(Chem.MolFromSmiles(smiles))) == right
        mol = neutralised(embedded(smiles))
        assert mol.GetNumConformers() == 1 and Chem.MolToSmiles(Chem.RemoveHs(mol)) == right


def test_salts_and_charges_in_three_dimensions(tmp_path: Path) -> None:
    """The coordinates of the heavy atoms stay, and so do those of hydrogens where no charge changes."""
    salt, ammonium = embedded("CCO.Cl"), embedded("C[NH3+]")
    text = "".join(f"{Chem.MolToMolBlock(mol)}>  <pIC50>\n1\n\n$$$$\n" for mol in (salt, ammonium))
    path = table(tmp_path / "a.sdf", text)
    whys = [why for _, why in read(path).left_out]
    assert whys[0].startswith("a salt") and whys[1].startswith("charged (set neutralise)")
    found = read(path, largest_fragment=True, neutralise=True)
    assert found.molecules.keys == ["CCO", "CN"] and not found.left_out
    x = salt.GetConformer().GetPositions()
    kept = [atom.GetIdx() for atom in salt.GetAtoms() if atom.GetSymbol() != "Cl"][: 9 + 1]
    kept = [i for i in kept if not any(n.GetSymbol() == "Cl" for n in salt.GetAtomWithIdx(i).GetNeighbors())]
    ours = found.molecules[0].pos.numpy()
    np.testing.assert_allclose(ours - ours.mean(0), x[kept] - x[kept].mean(0), atol=1e-3)
    assert len(found.molecules[1].type) == 7  # methylamine


def test_isotopes_are_not_merged(tmp_path: Path) -> None:
    text = "smiles,pIC50\n[2H]OC,7\nCO,5\n[13CH3]C=O,6\nCC=O,4\nC([2H])([2H])C,1\nOC,6\n"
    found = read(table(tmp_path / "a.csv", text))
    assert found.molecules.keys == ["CO", "CO", "CC=O", "CC=O", "CC"] and found.values == [7, 5.5, 6, 4, 1]
    (note,) = [note for note in found.notes if "isotopes" in note]
    assert note.startswith("3 records have isotopes") and "record 1: [2H]OC" in note
    assert sources.read_source(str(tmp_path / "a.csv"), 9).notes[0].startswith("3 records have isotopes")


def test_attachment_points_are_refused(tmp_path: Path) -> None:
    found = read(table(tmp_path / "a.csv", "smiles,pIC50\n*CCO,5\n[1*]C1CC1,6\nCCO,7\n"))
    assert found.values == [7] and all(why.startswith("with an attachment point (*)") for _, why in found.left_out)
    mol = embedded("CCO")
    for symbol in ("R", "R#", "A", "*"):
        text = of(mol).replace(" C  ", f" {symbol:<3}", 1)
        ((_, why),) = read(sdf(tmp_path / "a.sdf", text)).left_out
        assert why.startswith(("with an attachment point (*)", records.UNREADABLE)), (symbol, why)
    assert sources.read_source(str(tmp_path / "a.csv"), 9).left_out[0][1].endswith(": *CCO")


def test_large_molecules_are_refused_before_they_are_embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(smiles: Sequence[str], *settings: Any) -> list[str]:
        assert not smiles
        return []

    monkeypatch.setattr(entries, "embed_all", fail)
    smiles = ["C" * 30, "C[SiH](C)C", "C[N+](C)(C)C", "CC.CC", "C[CH2]", "*C"]
    found = read(table(tmp_path / "a.csv", "smiles,pIC50\n" + "".join(f"{each},1\n" for each in smiles)))
    starts = ["too large", "with other elements", "charged", "a salt", "a radical", "with an attachment point"]
    for (_, why), start in zip(found.left_out, starts, strict=True):
        assert why.startswith(start)


# Structures


@pytest.mark.parametrize("vocabulary", [HEAVY, EXPLICIT], ids=["heavy", "explicit"])
def test_an_sdf_without_bonds_is_read_like_xyz(tmp_path: Path, vocabulary: Vocabulary) -> None:
    smiles = ["CCN", "CC=O", "C1CCOC1"]
    path = sdf(tmp_path / "a.sdf", *(of(embedded(each), bonded=False) for each in smiles))
    found = read(path, vocabulary=vocabulary)
    assert found.molecules.keys == [Chem.CanonSmiles(each) for each in smiles] and not found.left_out
    sizes = found.molecules.counts.tolist()
    assert sizes == [embedded(each).GetNumAtoms() for each in smiles] or vocabulary is HEAVY
    light = Chem.RemoveHs(embedded("CCN"))
    ((_, why),) = read(sdf(tmp_path / "b.sdf", of(light, bonded=False)), vocabulary=vocabulary).left_out
    assert why.startswith("a salt or mixture of 3 fragments")  # three atoms without hydrogens are no molecule


@pytest.mark.parametrize(
    ("smiles", "right"),
    [
        ("c1cnc[nH]1", "c1c[nH]cn1"),
        ("c1ccoc1", "c1ccoc1"),
        ("c1cc[nH]c1", "c1cc[nH]c1"),
        ("c1ccncc1", "c1ccncc1"),
        ("Cc1c[nH]cn1", None),  # 4- or 5-methylimidazole
    ],
)
def test_aromatic_bonds_with_implicit_hydrogens(tmp_path: Path, smiles: str, right: "str | None") -> None:
    """The hydrogen of an aromatic nitrogen is found if it has one place; no radical is made."""
    light = Chem.RemoveHs(embedded(smiles))
    for atom in light.GetAtoms():
        atom.SetNumExplicitHs(0)
    text = of(light, order=lambda bond: 4 if bond.GetIsAromatic() else order_of(bond))
    (record,) = records.read_records(sdf(tmp_path / "a.sdf", text))
    mol, why = record.molecule()
    if right is None:
        assert mol is None and "Kekulé" in why
    else:
        assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == right
        assert not any(atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())


def test_radicals_are_refused(tmp_path: Path) -> None:
    mol = embedded("C[CH2]")
    text = f"{Chem.MolToMolBlock(mol)}>  <pIC50>\n1\n\n$$$$\n"
    for vocabulary in (HEAVY, EXPLICIT):
        ((_, why),) = read(table(tmp_path / "a.sdf", text), vocabulary=vocabulary).left_out
        assert why.startswith("a radical")


@pytest.mark.parametrize("smiles", ["CCOCC", "c1ccncc1", "CCO", "C1CC1"])
@pytest.mark.parametrize("hydrogens", [False, True])
def test_flat_depictions_are_refused(tmp_path: Path, smiles: str, hydrogens: bool) -> None:
    """Flagged as 3-D; a planar molecule with all its hydrogens may be a structure."""
    mol = Chem.MolFromSmiles(smiles)
    mol = Chem.AddHs(mol) if hydrogens else mol
    rdDepictor.Compute2DCoords(mol)
    Chem.Kekulize(mol)
    (record,) = records.read_records(sdf(tmp_path / "a.sdf", of(mol)))
    _, why = record.parsed()
    assert why == (records.DEPICTION if smiles != "c1ccncc1" or not hydrogens else "")
    real = embedded("c1ccncc1")
    assert next(records.read_records(sdf(tmp_path / "b.sdf", Chem.MolToMolBlock(real)))).parsed()[1] == ""


def test_records_of_version_3000(tmp_path: Path) -> None:
    text = Chem.MolToV3KMolBlock(embedded("CCO"))
    assert read(sdf(tmp_path / "a.sdf", text, text)).molecules.keys == ["CCO", "CCO"]
    (tmp_path / "a.mol").write_text(text)
    assert sources.read_source(str(tmp_path / "a.mol"), 9).numbers == [1]


def test_a_compressed_file_that_is_cut_off(tmp_path: Path) -> None:
    whole = gzip.compress(b"CCO\n" * 1000)
    (tmp_path / "a.smi.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GraftError, match=r"a\.smi\.gz cannot be read"):
        sources.read_source(str(tmp_path / "a.smi.gz"), 9)


def test_a_property_in_another_encoding_is_skipped_alone(tmp_path: Path) -> None:
    body = Chem.MolToMolBlock(embedded("CCO")).encode()
    properties = b">  <unit>\n\xb5M\n\n>  <a\xf1o>\n1999\n\n>  <note> (7)\ntwo\nlines\n\n>  <pIC50>\n6.5\n\n$$$$\n"
    (tmp_path / "a.sdf").write_bytes(b"\xe9thanol" + body + properties)
    (record,) = records.read_records(tmp_path / "a.sdf")
    assert record.properties == {"note": "two\nlines", "pIC50": "6.5"}
    assert read(tmp_path / "a.sdf").values == [6.5]


@pytest.mark.parametrize("suffix", ["sdf", "sdf.gz", "SDF.GZ"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["unix", "windows"])
def test_bad_records_between_good_ones(tmp_path: Path, suffix: str, ends: str) -> None:
    good = [Chem.MolToMolBlock(embedded(smiles)) for smiles in ("CCO", "CCN", "CC=O")]
    bad = [
        good[0].replace(" C ", " Qq", 1),
        good[0].replace("M  END\n", ""),
        good[1].replace("  0  0", "  x  0", 1),
        "junk\n",
    ]
    blocks = [good[0], bad[0], bad[1], good[1], bad[2], bad[3], good[2]]
    text = "".join(f"{each}>  <pIC50>\n{i}\n\n$$$$\n" for i, each in enumerate(blocks)).replace("\n", ends)
    data = text.encode()
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(data) if suffix.lower().endswith("gz") else data)
    found = read(path)
    assert found.values[0] == 0 and found.values[-1] == 6 and 3 in found.values
    assert {number for number, _ in found.left_out} >= {2, 6} and len(found.values) + len(found.left_out) == 7


RAW = """5
gdb 7\t1.5\t2.5\t3.5\t0.25\t13.2\t-0.4\t0.1\t0.5\t35.4\t0.04\t-40.1\t-40.2\t-40.3\t-40.4\t6.5
C\t-0.0126\t 1.0858\t 8.0*^-3\t-0.5356
H\t 0.0021\t-6.0*^-3\t 1.9*^-3\t 0.1339
H\t 1.0117\t 1.4637\t 2.7E-4\t 0.1339
H\t-0.5408\t 1.4475\t-0.8766\t 0.1339
H\t-0.5238\t 1.4379\t 0.9063\t 0.1339
1341.307\t1341.3284\t1341.365
C\tC\t
InChI=1S/CH4/h1H4\tInChI=1S/CH4/h1H4
"""


def test_raw_files_of_qm9(tmp_path: Path) -> None:
    """Exponents as Mathematica writes them, a fifth column of charges, and lines after the atoms."""
    path = table(tmp_path / "a.xyz", RAW * 3)
    found = sources.read_source(str(path), 9)
    assert found.arrays["num_atoms"].tolist() == [5, 5, 5] and not found.left_out
    np.testing.assert_allclose(found.arrays["positions"][0, :2, 2], [8e-3, 1.9e-3])
    np.testing.assert_allclose(found.arrays["positions"][0, 2, 2], 2.7e-4)
    scored = read(path, "gap")
    assert scored.molecules.keys == ["C", "C", "C"] and scored.values == [0.5, 0.5, 0.5]


def test_a_wrong_count_in_xyz_is_no_smaller_molecule(tmp_path: Path) -> None:
    good = "3\nwater\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0\n"
    for wrong in ("2", "4"):
        path = table(tmp_path / "a.xyz", good + good.replace("3", wrong, 1) + good)
        found = sources.read_source(str(path), 9)
        assert len(found.numbers) + len(found.left_out) >= 2 and found.left_out
        assert set(found.arrays["num_atoms"].tolist()) == {3}


def test_smiles_files(tmp_path: Path) -> None:
    path = table(tmp_path / "a.smi.gz", "smiles name\nCCO\tethanol, pure\n\nCCN  \nC( broken\n")
    found = sources.read_source(str(path), 9)
    assert found.titles == ["CCO", "CCN"] and found.left_out == [(3, "no SMILES: C(")]
    names = [record.properties.get("name") for record in records.read_records(path)]
    assert names == ["ethanol, pure", None, "broken"]


# The shared files


@pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not here")
def test_shared_cases() -> None:
    def keys(name: str, score: str, **options: Any) -> list[str]:
        return list(read(CASES / name, score, **options).molecules.keys)

    assert keys("no_bonds_with_hydrogens.sdf", "score") == ["CCO", "CC(N)=O", "C1CCNC1"]
    assert keys("aromatic_type4_implicit_h.sdf", "score") == ["c1c[nH]cn1", "c1ccoc1"]
    assert read(CASES / "latin1_property_before_score.sdf", "pIC50").values == [5.0, 5.1, 5.2, 5.3, 5.4]
    assert read(CASES / "gz.sdf.gz", "pIC50").values == [5.0, 5.1, 5.2, 5.3, 5.4]
    assert keys("depiction_flagged_3d.sdf", "pIC50") == []
    assert keys("other_column.csv", "Y", smiles_column="Drug") == ["CCO", "CCN"]
    assert keys("slow_embedding.csv", "score") == ["CCO"]
    assert sources.read_source(str(CASES / "qm9_raw.xyz"), 9).arrays["num_atoms"].tolist() == [5]
    chosen = {"standard_type": "IC50", "standard_relation": "=", "standard_units": "nM"}
    assert read(CASES / "chembl_export.csv", "Standard Value", filters=chosen).values == [120]


def test_mirror_images_with_different_scores_are_reported(tmp_path):
    """The pair is reported once; diastereomers, meso forms and equal scores are no such pair."""
    rows = ["C[C@H](N)C(=O)O,9", "C[C@@H](N)C(=O)O,4", "C[C@H](O)CC,1", "C[C@@H](O)CC,1", "F/C=C/Cl,1", "F/C=C\\Cl,2",
            "C[C@H](O)[C@@H](C)O,3", "CCO,5"]  # fmt: skip
    (tmp_path / "a.csv").write_text("smiles,score\n" + "\n".join(rows) + "\n")
    found = scored_files.read_scored_molecules(tmp_path / "a.csv", "score", DRUG_LIKE, 8)
    assert len(found.values) == 8
    notes = [note for note in found.notes if "mirror" in note]
    assert len(notes) == 1 and notes[0].startswith(
        "1 pair of mirror images has different scores, such as records 1 and 2"
    )
    assert "with 9 and 4" in notes[0]
