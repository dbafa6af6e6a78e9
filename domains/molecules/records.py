"""Records of SDF, XYZ, SMILES and CSV files, and the reason why a record is invalid."""

import csv
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import Chem, rdBase
from typing_extensions import override

from domains.molecules.conformers import embed_conformer
from graft.errors import GraftError
from graft.io import text

UNREADABLE, FLAT, CHARGED = "unparseable", "without a 3-D structure", "charged"


class Record(ABC):
    """One record of a file: its properties by name, as text, and its molecule."""

    properties: dict[str, str]

    @abstractmethod
    def molecule(self) -> tuple[Any, str]:
        """Return (molecule with hydrogens and one 3-D conformer, ""), or (None, the reason)."""


class _Read(Record):
    """A record with a structure."""

    def __init__(self, mol: Any) -> None:
        self._mol = mol
        self.properties = {}
        try:
            for name in mol.GetPropNames() if mol is not None else ():
                self.properties[name] = str(mol.GetProp(name)).strip()
        except UnicodeDecodeError:
            pass  # a property in another encoding cannot be read

    @override
    def molecule(self) -> tuple[Any, str]:
        mol = self._mol
        if mol is None or mol.GetNumAtoms() == 0:
            return None, UNREADABLE
        if not mol.GetConformer().Is3D() or not np.isfinite(mol.GetConformer().GetPositions()).all():
            return None, FLAT
        if Chem.GetFormalCharge(mol) != 0:
            return None, CHARGED
        with rdBase.BlockLogs():
            if mol.NeedsUpdatePropertyCache():
                mol.UpdatePropertyCache(strict=False)
            Chem.SanitizeMol(mol, catchErrors=True)  # placing hydrogens needs the hybridisation
            return Chem.AddHs(mol, addCoords=True), ""


class _Smiles(Record):
    """A record with a SMILES only; its conformer is embedded with a fixed seed."""

    def __init__(self, smiles: str, properties: "dict[str, str]") -> None:
        self._smiles, self.properties = smiles, properties

    @override
    def molecule(self) -> tuple[Any, str]:
        mol, why = embed_conformer(self._smiles)
        return (None, CHARGED) if mol is not None and Chem.GetFormalCharge(mol) != 0 else (mol, why)


def read(path: Path) -> Iterator[Record]:
    """Return the records of a file, in order; its suffix decides the reader in `KINDS`.

    Raises:
        GraftError: The file cannot be read as its suffix says.
    """
    return KINDS[path.suffix.lower()](path)


def _sdf(path: Path) -> Iterator[Record]:
    with rdBase.BlockLogs():
        try:
            supplier = Chem.SDMolSupplier(str(path), sanitize=False, removeHs=False)
            count = len(supplier)
        except (OSError, RuntimeError, ValueError):
            raise GraftError(f"{path} is no SDF file, or an empty one") from None
        for index in range(count):
            try:
                mol = supplier[index]
            except (OSError, RuntimeError, ValueError, IndexError):  # RDKit raises any of these for an invalid record
                mol = None
            yield _Read(mol)


def _xyz(path: Path) -> Iterator[Record]:
    """Yield the frames of an XYZ file; ``name=value`` words of the comment line are properties.

    The molecules have no bonds, which the distance rule sets later.
    """
    lines = text.lines(_text(path))
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        count = int(lines[at]) if lines[at].strip().isdigit() else 0
        frame = lines[at + 2 : at + 2 + count]
        if count == 0 or len(frame) < count:  # skip to the next line that can start a frame
            at += 1
            while at < len(lines) and not lines[at].strip().isdigit():
                at += 1
            yield _Read(None)
            continue
        with rdBase.BlockLogs():  # RDKit prints a message for an unknown element
            mol = _frame(frame)
        record = _Read(mol)
        record.properties = dict(word.split("=", 1) for word in lines[at + 1].split() if "=" in word)
        yield record
        at += 2 + count


def _frame(lines: list[str]) -> Any:
    """Return the atoms of a frame as a molecule without bonds; None if a line is not an atom."""
    table, mol = Chem.GetPeriodicTable(), Chem.RWMol()
    conformer = Chem.Conformer(len(lines))
    conformer.Set3D(True)
    for i, line in enumerate(lines):
        try:
            symbol, *x = line.split()[:4]
            symbol = table.GetElementSymbol(int(symbol)) if symbol.isdigit() else symbol.capitalize()
            conformer.SetAtomPosition(i, [float(value) for value in x])
            atom = Chem.Atom(table.GetAtomicNumber(symbol))
        except (ValueError, RuntimeError, IndexError):
            return None
        atom.SetNoImplicit(True)
        mol.AddAtom(atom)
    mol.AddConformer(conformer)
    return Chem.Mol(mol)


def _smi(path: Path) -> Iterator[Record]:
    """Yield one record for each line: a SMILES and, if there is one, a name after it."""
    for line in text.lines(_text(path)):
        if line.strip():
            smiles, *name = line.split(maxsplit=1)
            yield _Smiles(smiles, {"name": name[0].strip()} if name else {})


def _csv(path: Path) -> Iterator[Record]:
    """Yield the rows of a table with a column of SMILES (`_column`).

    Commas, semicolons or tabs separate the columns.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            for separator in ",;\t":  # no SMILES holds one of these; csv.Sniffer would try all characters
                file.seek(0)
                table = csv.DictReader(file, delimiter=separator)
                columns = list(table.fieldnames or [])
                if (smiles := _column(columns)) is not None:
                    break
            else:
                file.seek(0)
                header = file.readline().strip() or "none"
                raise GraftError(f"{path} has no column 'smiles' or 'canonical_smiles'; there are: {header}")
            for row in table:
                yield _Smiles((row[smiles] or "").strip(), {name: (row[name] or "").strip() for name in columns})
    except (UnicodeDecodeError, csv.Error) as error:
        raise GraftError(f"{path} is no CSV table in UTF-8 ({error})") from None


def _column(names: list[str]) -> "str | None":
    """Return the column that holds SMILES, or None.

    It is the first of ``smiles``, ``isomeric_smiles`` and ``canonical_smiles``, in any case, with or without
    underscore.
    """
    plain = {re.sub(r"[\W_]", "", name).lower(): name for name in reversed(names)}
    return next((plain[name] for name in ("smiles", "isomericsmiles", "canonicalsmiles") if name in plain), None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise GraftError(f"{path} is no text in UTF-8 ({error})") from None


KINDS: dict[str, Callable[[Path], Iterator[Record]]] = {".sdf": _sdf, ".xyz": _xyz, ".smi": _smi, ".csv": _csv}
"""Reader for each suffix."""
