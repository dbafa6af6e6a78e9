"""The notebooks run from the first cell to the last, with smaller numbers."""

import json
import math
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from rdkit import Chem

ROOT = Path(__file__).parents[2]


def cells(name: str) -> list[str]:
    """The code of a notebook, by its path in the repository."""
    notebook = json.loads((ROOT / name).read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


NOTEBOOKS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("d*/**/*.ipynb"))


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells(name: str) -> None:
    """Jupyter opens the notebook without a warning, and the repository has no outputs."""
    notebook = json.loads((ROOT / name).read_text(encoding="utf-8"))
    found = notebook["cells"]
    names = [cell["id"] for cell in found if "id" in cell]
    assert len(set(names)) == len(names) == (len(found) if notebook["nbformat_minor"] >= 5 else 0)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in found)


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> list:
    """A stand-in for the display of a notebook that keeps the displayed objects."""
    shown: list = []
    module = ModuleType("IPython.display")
    made = {kind: (lambda data, kind=kind: SimpleNamespace(kind=kind, data=data)) for kind in ("HTML", "Image")}
    vars(module).update(made, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython.display", module)  # without IPython itself, which matplotlib looks for
    return shown


def test_molecules(folder: Path, display: list, monkeypatch: pytest.MonkeyPatch) -> None:
    run_molecules(folder, monkeypatch)
    assert [shown.kind for shown in display] == ["Image", "HTML"]
    assert display[0].data.startswith(b"\x89PNG") and display[1].data.count("<canvas") == 4
    assert Path("hits.html").read_text().count("<tr>") == 17  # the head and sixteen
    relaxed = list(Chem.SDMolSupplier("relaxed.sdf", removeHs=False))
    assert len(relaxed) == 16 and all(mol.HasProp("reward") for mol in relaxed if mol is not None)
    scored, assay = (json.loads(Path(f"runs/{name}/summary.json").read_text()) for name in ("score", "assay"))
    assert scored["reward_calls"] == 96 and assay["reward_calls"] == 0 and assay["rounds"][0]["draws"] > 20


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("vina") is None, reason="there is no program vina")
def test_docked_hits(folder: Path, display: list, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("meeko")
    places = [
        [8 * math.cos(i) * math.sin(i / 8), 8 * math.sin(i) * math.sin(i / 8), 8 * math.cos(i / 8)] for i in range(60)
    ]
    atom = "ATOM  {:5d}  C   UNL A   1    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00    +0.000 C "
    Path("receptor.pdbqt").write_text(
        "\n".join([*(atom.format(i + 1, *xyz) for i, xyz in enumerate(places)), "TER", ""])
    )
    run_molecules(folder, monkeypatch)
    docked = list(Chem.SDMolSupplier("docked.sdf", removeHs=False))
    affinities = [mol.GetDoubleProp("reward") for mol in docked]
    assert docked and affinities == sorted(affinities) and affinities[-1] < 0
    assert [shown.kind for shown in display] == ["Image", "HTML", "HTML"]


def run_molecules(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the notebook of molecules with small numbers."""
    monkeypatch.syspath_prepend(folder)
    first, *rest = cells("domains/molecules/examples/molecules.ipynb")
    namespace: dict = {}
    exec(re.sub(r"= \d+, \d+, \d+, \d+", "= 96, 4, 1, 16", first), namespace)
    assert namespace["DRAWS"] == 96
    try:
        for cell in rest:
            exec(cell, namespace)
    finally:
        sys.modules.pop("score", None)


def run_cells(name: str, numbers: str, namespace: dict) -> None:
    """Run a notebook with other numbers in its first cell."""
    first, *rest = cells(name)
    first, count = re.subn(r"= [\d, ]+", f"= {numbers} ", first, count=1)
    assert count == 1
    for cell in [first, *rest]:
        exec(cell, namespace)


@pytest.mark.slow
def test_layouts(folder: Path, display: list) -> None:
    namespace: dict = {}
    run_cells("domains/layouts/examples/layouts.ipynb", "128, 4, 16", namespace)
    assert display[0].data.startswith(b"\x89PNG") and len(namespace["pages"]) == 8
    written = json.loads(Path("pages.json").read_text())
    assert len(written["images"]) == 8 and (written["images"][0]["width"], written["images"][0]["height"]) == (612, 792)


@pytest.mark.slow
def test_pictures(folder: Path, display: list) -> None:
    pytest.importorskip("diffusers")
    namespace: dict = {}
    run_cells("domains/images/examples/pictures.ipynb", "96, 4, 16", namespace)
    ours, theirs = namespace["run"].module.policy.backbone.state_dict(), namespace["network"].state_dict()
    assert ours.keys() == theirs.keys() and all((ours[name] == theirs[name]).all() for name in ours)
    assert all(shown.data.startswith(b"\x89PNG") for shown in display) and len(display) == 3
    thin = json.loads(Path("runs/thin/summary.json").read_text())
    lines = Path("runs/bold/ratings/round_1.jsonl").read_text().splitlines()
    kept = sum(json.loads(line).get("rating") == 1 for line in lines)
    assert thin["reward_calls"] == 0 and 0 < thin["rounds"][0]["accepted"] == kept < 64


@pytest.mark.slow
def test_a_new_domain(folder: Path, display: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    namespace: dict = {}
    try:
        run_cells("docs/examples/new_domain.ipynb", "2, 64, 4, 32", namespace)
        assert namespace["summary"]["tuned"]["n"] == 32
    finally:
        for name in [name for name in sys.modules if name.startswith("domains.crystals")]:
            del sys.modules[name]
