"""Write molecules to files, and depict them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rdkit import Chem, rdBase
from rdkit.Chem import rdDepictor
from rdkit.Chem.Draw import rdMolDraw2D

from domains.molecules.chemistry import is_connected, is_stable, is_valid, molecule_key
from domains.molecules.view import AROUND
from graft.errors import GraftError
from graft.io.atomic import write_bytes, write_with
from graft.io.csv_files import csv_text


def write_molecules(mols: Sequence[Any], path: "str | Path") -> None:
    """Write molecules, with their property ``reward`` if it is set.

    The suffix of the path decides the format.

    ``.sdf``: all molecules with their 3-D structures. ``.csv``: all; smiles, valid, stable, connected, reward.
    ``.xyz``: all, one frame each, missing hydrogens added; SMILES, flags and reward in the comment.
    ``.smi``: SMILES of the valid molecules, one per line. SMILES have stereochemistry.

    Raises:
        GraftError: The suffix is unknown.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITERS:
        raise GraftError(f"molecules cannot be written to {str(path)!r}: its name must end in {', '.join(_WRITERS)}")
    write_with(path, lambda temporary: _WRITERS[path.suffix.lower()](mols, str(temporary)))


def render_grid(
    mols: Sequence[Any],
    path: "str | Path | None" = None,
    columns: int = 8,
    legends: "Sequence[str] | None" = None,
    size: "int | None" = None,
) -> bytes:
    """Return a PNG grid of 2-D depictions.

    The legend marks molecules that are invalid, in pieces or not stable.

    Args:
        mols: At least one molecule.
        path: File to which the picture is written too.
        columns: Molecules per row.
        legends: Line below each molecule; its reward if not given.
        size: Width of a cell in pixels; 160 if not given, or 480 for a single molecule.
    """
    columns = min(columns, len(mols))
    size = size or (480 if len(mols) == 1 else 160)
    rows = -(-len(mols) // columns)
    legend = max(20, size // 16)
    height = size + legend
    canvas = rdMolDraw2D.MolDraw2DCairo(columns * size, rows * height, size, height)
    options: Any = canvas.drawOptions()
    options.prepareMolsBeforeDrawing = False  # preparing raises on invalid molecules
    options.legendFontSize, options.legendFraction = round(0.7 * legend), legend / height
    options.bondLineWidth, options.padding = max(1.5, size / 160), 0.08
    options.drawMolsSameScale = False
    options.fixedBondLength = size / 6  # an upper limit, so that small molecules are not enlarged
    texts = [_reward(mol) for mol in mols] if legends is None else legends
    with rdBase.BlockLogs():
        depicted = [_depicted(mol) for mol in mols]
        marks = [_mark(m) if flat is not None else "(cannot be drawn)" for m, flat in zip(mols, depicted, strict=True)]
        canvas.DrawMolecules(
            [Chem.Mol() if flat is None else flat for flat in depicted],
            legends=[f"{text} {mark}".strip() for text, mark in zip(texts, marks, strict=True)],
        )
    canvas.FinishDrawing()
    png = bytes(canvas.GetDrawingText())
    if path is not None:
        write_bytes(path, png)
    return png


def _reward(mol: Any) -> str:
    return f"{float(mol.GetProp('reward')):.3g}" if mol.HasProp("reward") else ""


def _mark(mol: Any) -> str:
    for holds, mark in ((is_valid, "(not valid)"), (is_connected, "(in pieces)"), (is_stable, "(not stable)")):
        if not holds(mol):
            return mark
    return ""


def _depicted(mol: Any) -> Any:
    """Return a 2-D copy, or None if RDKit cannot depict the molecule."""
    try:
        if is_valid(mol):
            flat = Chem.RemoveHs(mol, sanitize=False)
            Chem.Kekulize(flat, clearAromaticFlags=True)
        else:
            flat = Chem.Mol(mol)
        Chem.GetSymmSSSR(flat)  # depiction needs the rings
        rdDepictor.Compute2DCoords(flat)
        trial = rdMolDraw2D.MolDraw2DSVG(50, 50)
        options: Any = trial.drawOptions()
        options.prepareMolsBeforeDrawing = False
        trial.DrawMolecule(flat)
    except (RuntimeError, ValueError):  # RDKit cannot lay out every graph that a network generates
        return None
    return flat


def _columns(mol: Any) -> dict[str, str]:
    reward = str(mol.GetProp("reward")) if mol.HasProp("reward") else ""
    flags = {"valid": is_valid(mol), "stable": is_stable(mol), "connected": is_connected(mol)}
    return {
        "smiles": molecule_key(mol, stereo=True),
        **{name: str(int(flag)) for name, flag in flags.items()},
        "reward": reward,
    }


def _sdf(mols: Sequence[Any], path: str) -> None:
    with Chem.SDWriter(path) as writer, rdBase.BlockLogs():
        for mol in mols:
            columns = {name: value for name, value in _columns(mol).items() if value}
            record = Chem.Mol(mol)
            for name in [*record.GetPropNames(), AROUND]:  # RDKit writes private properties too
                record.ClearProp(name)
            for name, value in columns.items():
                record.SetProp("SMILES" if name == "smiles" else name, value)
            writer.SetKekulize(is_valid(mol))  # aromatic bonds of an invalid molecule may have no Kekulé form
            writer.write(record)


def _xyz(mols: Sequence[Any], path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for mol in mols:
            note = " ".join(f"{name}={value}" for name, value in _columns(mol).items() if value)
            with rdBase.BlockLogs():
                whole = Chem.Mol(mol)
                whole.UpdatePropertyCache(strict=False)  # RDKit adds no hydrogens without a property cache
                whole = Chem.AddHs(whole, addCoords=True) if is_valid(mol) else whole
                lines = str(Chem.MolToXYZBlock(whole)).splitlines()[2:]
            file.write("\n".join([str(whole.GetNumAtoms()), note, *lines]) + "\n")


def _smi(mols: Sequence[Any], path: str) -> None:
    Path(path).write_text(
        "".join(f"{molecule_key(mol, stereo=True)}\n" for mol in mols if is_valid(mol)), encoding="utf-8"
    )


def _csv(mols: Sequence[Any], path: str) -> None:
    names = ("smiles", "valid", "stable", "connected", "reward")
    rows = [[columns[name] for name in names] for columns in map(_columns, mols)]
    Path(path).write_bytes(csv_text(names, rows, line_end="\r\n").encode())


_WRITERS: dict[str, Callable[[Sequence[Any], str], None]] = {".sdf": _sdf, ".xyz": _xyz, ".smi": _smi, ".csv": _csv}
