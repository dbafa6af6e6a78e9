"""Molecules that no chemist would call one are drawn and written, for a poor reference makes them."""

import math
from pathlib import Path
from typing import Any

import pytest
from rdkit import Chem
from rdkit.Chem import rdDepictor
from rdkit.Geometry import Point3D

from domains.molecules.files import render_grid, write_molecules


def carbons(count: int, *, at: float = 0.0, bond: Any = None) -> Any:
    """Carbons at one place, all bonded to all others if at all."""
    mol = Chem.RWMol()
    for _ in range(count):
        mol.AddAtom(Chem.Atom("C"))
    for i in range(count if bond is not None else 0):
        for j in range(i):
            mol.AddBond(i, j, bond)
    conformer = Chem.Conformer(count)
    conformer.Set3D(True)
    for i in range(count):
        conformer.SetAtomPosition(i, Point3D(at, 0, 0))
    mol.AddConformer(conformer)
    return mol.GetMol()


DEGENERATE = {
    "none": Chem.Mol(),
    "at one place": carbons(3),
    "nowhere": carbons(2, at=math.nan),
    "far": carbons(2, at=1e30),
    "all bonded": carbons(20, bond=Chem.BondType.TRIPLE),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_molecules(name: str, tmp_path: Path) -> None:
    mols = [DEGENERATE[name], Chem.MolFromSmiles("CCO")]
    assert render_grid(mols).startswith(b"\x89PNG")
    for suffix in (".sdf", ".xyz", ".csv", ".smi"):
        write_molecules(mols, tmp_path / f"mols{suffix}")
        assert (tmp_path / f"mols{suffix}").stat().st_size


def test_what_cannot_be_drawn_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = render_grid([carbons(3)])

    def fail(_: Any) -> None:
        raise RuntimeError("Pre-condition Violation")

    monkeypatch.setattr(rdDepictor, "Compute2DCoords", fail)
    marked = render_grid([carbons(3)])
    assert marked.startswith(b"\x89PNG") and marked != plain
