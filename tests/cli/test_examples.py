"""The notebooks run from the first cell to the last, with smaller numbers."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from rdkit import Chem

EXAMPLES = Path(__file__).parents[2] / "domains/molecules/examples"


def cells(name: str) -> list[str]:
    """The code of a notebook."""
    notebook = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    return ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> list:
    """Stands for what a notebook shows: the objects that were to be displayed."""
    shown: list = []
    module = ModuleType("IPython.display")
    made = {kind: (lambda data, kind=kind: SimpleNamespace(kind=kind, data=data)) for kind in ("HTML", "Image")}
    vars(module).update(made, display=shown.append)
    monkeypatch.setitem(sys.modules, "IPython.display", module)  # without IPython itself, which matplotlib looks for
    return shown


def test_molecules(folder: Path, display: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    first, *rest = cells("molecules.ipynb")
    namespace: dict = {}
    exec(re.sub(r"= \d+, \d+, \d+, \d+", "= 96, 4, 1, 16", first), namespace)
    assert namespace["DRAWS"] == 96
    try:
        for cell in rest:
            exec(cell, namespace)
    finally:
        sys.modules.pop("score", None)
    assert [shown.kind for shown in display] == ["Image", "HTML"]
    assert display[0].data.startswith(b"\x89PNG") and display[1].data.count("<canvas") == 4
    assert Path("hits.html").read_text().count("<tr>") == 17  # the head and sixteen
    relaxed = list(Chem.SDMolSupplier("relaxed.sdf", removeHs=False))
    assert len(relaxed) == 16 and all(mol.HasProp("reward") for mol in relaxed if mol is not None)
    scored, assay = (json.loads(Path(f"runs/{name}/summary.json").read_text()) for name in ("score", "assay"))
    assert scored["reward_calls"] == 96 and assay["reward_calls"] == 0 and assay["rounds"][0]["draws"] > 20
