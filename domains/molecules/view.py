"""Molecules that turn in the browser, as part of a page that loads nothing."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem, rdBase

from domains.molecules.chemistry import is_valid

STYLE = (
    "<style>.mols3d{display:flex;flex-wrap:wrap;gap:.6rem}.mol3d{margin:0;text-align:center}"
    ".mol3d canvas{border:1px solid #dde3ea;border-radius:6px;cursor:grab;touch-action:none}"
    ".mol3d figcaption{font-weight:400}</style>"
)

AROUND = "_around"
"""Private property of a molecule: the atoms around it and their bonds, as JSON."""
LONGEST_BOND = 1.95
"""Distance in Å below which two heavy atoms around a molecule are shown as bonded."""


def view(mols: Sequence[Any], legends: "Sequence[str] | None" = None, side: int = 230) -> str:
    """Return HTML of molecules as balls and sticks that turn.

    The mouse, a finger or the arrow keys turn them.

    Args:
        mols: Molecules with one conformer each.
        legends: Line below each molecule.
        side: Side of each picture in pixels.
    """
    figures = [
        f"<figure class='mol3d'><canvas width='{side}' height='{side}' tabindex='0' aria-label='in 3-D'></canvas>"
        f"<figcaption>{html.escape(legend)}</figcaption><script type='application/json'>{_data(mol)}</script></figure>"
        for mol, legend in zip(mols, legends or [""] * len(mols), strict=True)
    ]
    script = (Path(__file__).parent / "viewer.js").read_text(encoding="utf-8")
    note = "<p class='note'>Drag to turn, wheel to zoom, double click to put it back.</p>"
    return f"{STYLE}{note}<div class='mols3d'>{''.join(figures)}</div><script>{script}</script>"


def _data(mol: Any) -> str:
    """Return a molecule as JSON: elements and positions in Å, bonds with their orders, and atoms around it.

    Missing hydrogens are added.
    """
    with rdBase.BlockLogs():
        if is_valid(mol):
            mol = Chem.AddHs(mol, addCoords=True)
            Chem.Kekulize(mol, clearAromaticFlags=True)
    positions = mol.GetConformer().GetPositions().round(3).tolist()
    atoms = [[atom.GetSymbol(), *x] for atom, x in zip(mol.GetAtoms(), positions, strict=True)]
    bonds = [[b.GetBeginAtomIdx(), b.GetEndAtomIdx(), int(b.GetBondTypeAsDouble())] for b in mol.GetBonds()]
    around = json.loads(mol.GetProp(AROUND)) if mol.HasProp(AROUND) else {"atoms": [], "bonds": []}
    return json.dumps({"atoms": atoms, "bonds": bonds, "around": around}, separators=(",", ":"))


def surround(mol: Any, elements: Sequence[str], positions: "np.ndarray[Any, Any]") -> None:
    """Give a molecule heavy atoms around it, such as those of a pocket, which `view` shows as thin sticks.

    Args:
        mol: Molecule, which gets a private property that no file has.
        elements: Symbol of each atom.
        positions: Positions (n, 3) of the atoms in Å.
    """
    apart = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    first, second = np.nonzero(np.triu(apart < LONGEST_BOND, 1))
    atoms = [[element, *x] for element, x in zip(elements, positions.round(3).tolist(), strict=True)]
    bonds = [[int(i), int(j)] for i, j in zip(first, second, strict=True)]
    mol.SetProp(AROUND, json.dumps({"atoms": atoms, "bonds": bonds}, separators=(",", ":")))
