"""Records of SDF, XYZ, SMILES and table files, and the reason why a record is invalid."""

import csv
import gzip
import io
import math
import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase
from typing_extensions import override

from graft.errors import GraftError
from graft.io import text

UNREADABLE, FLAT = "unparseable", "without a 3-D structure"
DEPICTION = "a flat depiction without a 3-D structure (all z are equal)"
KEKULE = "with aromatic bonds that have no Kekulé form, since hydrogens of aromatic atoms are missing"
FLAT_Z = 1e-4  # Å; the coordinates of an SDF have four decimals

QM9_PROPERTIES = "tag index A B C mu alpha homo lumo gap r2 zpve U0 U H G Cv".split()
"""Properties in the comment line of a raw file of QM9, in order."""


class Record(ABC):
    """One record of a file.

    Attributes:
        properties: Its properties by name, as text.
        title: Name or SMILES of the molecule for messages; "" if it has none.
        has_structure: True if the molecule comes with a conformer.
        bare: True if the molecule has atoms only, without bonds.
    """

    properties: dict[str, str]
    title: str = ""
    has_structure: bool = True
    bare: bool = False

    @abstractmethod
    def parsed(self) -> tuple[Any, str]:
        """Return (sanitised molecule, ""), or (None, the reason); hydrogens are those of the file."""

    def molecule(self) -> tuple[Any, str]:
        """Return (molecule with hydrogens, ""), or (None, the reason)."""
        mol, why = self.parsed()
        if mol is None or self.bare:
            return mol, why
        with rdBase.BlockLogs():
            return Chem.AddHs(mol, addCoords=self.has_structure), ""


class _Structure(Record):
    """A record with a conformer.

    Args:
        mol: Molecule as the file has it; None if it cannot be read.
        properties: Its properties.
        title: Its name.
        bare: True if the molecule has atoms only. Its hydrogens are those of the file.
    """

    def __init__(self, mol: Any, properties: dict[str, str], title: str = "", bare: bool = False) -> None:
        self._mol, self.properties, self.title, self.bare = mol, properties, title, bare
        if not title and mol is not None and not bare:
            self.title = _unsanitised_smiles(mol)

    @override
    def parsed(self) -> tuple[Any, str]:
        mol = self._mol
        if mol is None or mol.GetNumAtoms() == 0:
            return None, UNREADABLE
        x = mol.GetConformer().GetPositions()
        if not mol.GetConformer().Is3D() or not np.isfinite(x).all():
            return None, FLAT
        with rdBase.BlockLogs():
            mol, why = _without_implicit_hydrogens(mol) if self.bare else _sanitised(mol)
        if mol is not None and not self.bare and np.ptp(x[:, 2]) < FLAT_Z and _is_depiction(mol, x):
            return None, DEPICTION
        return mol, why


def _unsanitised_smiles(mol: Any) -> str:
    """Return a SMILES that names a molecule without a title in messages; "" if there is none."""
    try:
        with rdBase.BlockLogs():
            copy = Chem.Mol(mol)
            copy.UpdatePropertyCache(strict=False)
            return str(Chem.MolToSmiles(Chem.RemoveHs(copy, sanitize=False)))
    except (RuntimeError, ValueError):
        return ""


def _without_implicit_hydrogens(mol: Any) -> tuple[Any, str]:
    copy = Chem.Mol(mol)
    for atom in copy.GetAtoms():
        atom.SetNoImplicit(True)
    copy.UpdatePropertyCache(strict=False)
    return copy, ""


def _is_depiction(mol: Any, x: NDArray[Any]) -> bool:
    """Return True if atoms in one plane are no real structure.

    With all hydrogens in the file, a real structure in one plane has no atom with four neighbours. Without them, three
    atoms always lie in one plane, and bonds of one length show a depiction.
    """
    if all(atom.GetTotalNumHs() == 0 for atom in mol.GetAtoms()):
        return any(atom.GetDegree() > 3 for atom in mol.GetAtoms())
    bonds = [np.linalg.norm(x[bond.GetBeginAtomIdx()] - x[bond.GetEndAtomIdx()]) for bond in mol.GetBonds()]
    return len(x) > 3 or (len(bonds) > 1 and bool(np.ptp(bonds) < 1e-3))


def _sanitised(mol: Any) -> tuple[Any, str]:
    """Return a sanitised molecule, with a hydrogen at an aromatic atom if it has one Kekulé form with it."""
    try:
        trial = Chem.RWMol(mol)
        Chem.SanitizeMol(trial)
        return Chem.Mol(trial), ""
    except Chem.KekulizeException:
        pass
    except Chem.AtomValenceException as error:
        return None, f"with a valence that RDKit does not allow ({_one_line(error)})"
    except ValueError as error:
        return None, f"RDKit cannot sanitise it ({_one_line(error)})"
    found: dict[str, Any] = {}
    for atom in mol.GetAtoms():
        if atom.GetAtomicNum() in (7, 15) and atom.GetDegree() == 2 and atom.GetFormalCharge() == 0:
            trial = Chem.RWMol(mol)
            trial.GetAtomWithIdx(atom.GetIdx()).SetNumExplicitHs(1)
            trial.GetAtomWithIdx(atom.GetIdx()).SetNoImplicit(True)
            if Chem.SanitizeMol(trial, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
                found.setdefault(str(Chem.MolToSmiles(trial)), trial)
    # several tautomers are possible, of which the file does not say one
    return (Chem.Mol(next(iter(found.values()))), "") if len(found) == 1 else (None, KEKULE)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).replace(":", "")


class Smiles(Record):
    """A record with a SMILES and no conformer."""

    has_structure = False

    def __init__(self, smiles: str, properties: "dict[str, str]") -> None:
        self.title, self.properties = smiles, properties

    @override
    def parsed(self) -> tuple[Any, str]:
        with rdBase.BlockLogs():
            mol = Chem.MolFromSmiles(self.title) if self.title else None
        return (mol, "") if mol is not None and mol.GetNumAtoms() else (None, "no SMILES")


def suffix(path: Path) -> str:
    """Return the suffix of a file that names its kind, in lower case and without ``.gz``."""
    name = path.name.lower()
    return Path(name.removesuffix(".gz")).suffix


def read(path: Path, smiles_column: "str | None" = None) -> Iterator[Record]:
    """Return the records of a file, in order; its suffix decides the reader in `KINDS`.

    Args:
        path: Path of the file, whose name may end in ``.gz``.
        smiles_column: Column of the SMILES in a table; None for a column of that name.

    Raises:
        GraftError: The file cannot be read as its suffix says.
    """
    kind = suffix(path)
    try:
        if kind in TABLES:
            yield from _table(path, smiles_column)
        else:
            yield from KINDS[kind](path)
    except (EOFError, OSError, zlib.error) as error:
        raise GraftError(f"{path} cannot be read ({error})") from None


def _open(path: Path) -> "IO[bytes]":
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def _text(path: Path) -> str:
    """Return the text of a file in UTF-8, UTF-16 with a byte-order mark, or Latin-1.

    Raises:
        GraftError: The file is not text.
    """
    with _open(path) as file:
        data = file.read()
    try:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            found = data.decode("utf-16")
        else:
            found = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        found = data.decode("latin-1")  # spreadsheets write it; every byte is a character
    if "\0" in found:
        raise GraftError(f"{path} is no text file")
    return found.replace("\r\n", "\n").replace("\r", "\n")


def _sdf(path: Path) -> Iterator[Record]:
    with _open(path) as file:
        lines: list[bytes] = []
        count = 0
        for line in file:
            if line.startswith(b"$$$$"):
                yield _sdf_record(lines)
                lines, count = [], count + 1
            else:
                lines.append(line.rstrip(b"\r\n"))
        if any(line.strip() for line in lines):
            yield _sdf_record(lines)
        elif count == 0:
            raise GraftError(f"{path} is no SDF file, or an empty one")


def _sdf_record(lines: list[bytes]) -> Record:
    """Return one record; a property that is not UTF-8 is skipped."""
    start = next((i for i, line in enumerate(lines) if line.startswith(b">")), len(lines))
    block = b"\n".join(lines[:start]).decode("utf-8", errors="replace") + "\n"
    properties: dict[str, str] = {}
    i = start
    while i < len(lines):
        header = lines[i]
        i += 1
        if not header.startswith(b">") or b"<" not in header:
            continue
        value: list[bytes] = []
        while i < len(lines) and lines[i].strip():
            value.append(lines[i])
            i += 1
        try:
            name = header[header.index(b"<") + 1 : header.rindex(b">")].decode()
            properties[name] = b"\n".join(value).decode().strip()
        except UnicodeDecodeError:
            pass
    with rdBase.BlockLogs():
        try:
            mol: Any = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False)
        except (OSError, RuntimeError, ValueError, IndexError):  # RDKit raises any of these for an invalid record
            mol = None
    atoms = [] if mol is None else [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    # atoms without bonds and with hydrogens, as some programs write them, are a structure as in an XYZ file
    bare = len(atoms) > 1 and 1 in atoms and mol.GetNumBonds() == 0
    return _Structure(mol, properties, block.partition("\n")[0].strip(), bare)


def _xyz(path: Path) -> Iterator[Record]:
    """Yield the frames of an XYZ file; ``name=value`` words of the comment line are properties.

    The molecules have no bonds, which are found from the distances later. Lines after the atoms that are no number, as
    in the raw files of QM9, belong to the frame.
    """
    lines = text.lines(_text(path))
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        count = int(lines[at]) if _is_count(lines[at]) else 0
        frame = lines[at + 2 : at + 2 + count]
        comment = lines[at + 1] if at + 1 < len(lines) else ""
        at = at + 1 if count == 0 or len(frame) < count else at + 2 + count
        rest: list[str] = []
        while at < len(lines) and not _is_count(lines[at]):
            rest.append(lines[at])
            at += 1
        with rdBase.BlockLogs():  # RDKit prints a message for an unknown element
            # an atom beyond the count shows that the count is wrong
            whole = count > 0 and len(frame) == count and not any(_xyz_atom(line) for line in rest)
            mol = _frame(frame) if whole else None
        yield _Structure(mol, _xyz_properties(comment) if whole else {}, comment.strip() if whole else "", bare=True)


def _is_count(line: str) -> bool:
    return line.strip().isascii() and line.strip().isdigit()


def _xyz_properties(comment: str) -> dict[str, str]:
    words = comment.split()
    if words[:1] == ["gdb"]:
        return dict(zip(QM9_PROPERTIES, words, strict=False))
    pairs = re.findall(r'([^\s=]+)=("[^"]*"|\S*)', comment)
    return {name: value.strip('"') for name, value in pairs}


def _xyz_atom(line: str) -> "tuple[int, list[float]] | None":
    """Return the atomic number and position of a line, or None if it is not an atom.

    Exponents may be written as ``*^`` (Mathematica) or ``D`` (Fortran).
    """
    symbol, *x = line.split()[:4] or [""]
    if len(x) != 3:
        return None
    table = Chem.GetPeriodicTable()
    try:
        symbol = table.GetElementSymbol(int(symbol)) if symbol.isdigit() else symbol.capitalize()
        number = table.GetAtomicNumber(symbol)
        place = [float(value.replace("*^", "e").replace("D", "e").replace("d", "e")) for value in x]
    except (ValueError, RuntimeError, OverflowError):
        return None
    return (number, place) if number > 0 and all(map(math.isfinite, place)) else None


def _frame(lines: list[str]) -> Any:
    """Return the atoms of a frame as a molecule without bonds; None if a line is not an atom."""
    mol = Chem.RWMol()
    conformer = Chem.Conformer(len(lines))
    conformer.Set3D(True)
    for i, line in enumerate(lines):
        found = _xyz_atom(line)
        if found is None:
            return None
        conformer.SetAtomPosition(i, found[1])
        mol.AddAtom(Chem.Atom(found[0]))
    mol.AddConformer(conformer)
    return Chem.Mol(mol)


def _smi(path: Path) -> Iterator[Record]:
    """Yield one record for each line: a SMILES and, if there is one, a name after it.

    A first line that names the column is skipped.
    """
    for number, line in enumerate(text.lines(_text(path))):
        if line.strip():
            smiles, *name = line.split(maxsplit=1)
            if number == 0 and smiles_column([smiles]) is not None:
                continue
            yield Smiles(smiles, {"name": name[0].strip()} if name else {})


def _table(path: Path, named: "str | None" = None) -> Iterator[Record]:
    """Yield the rows of a table with a column of SMILES.

    Commas, semicolons or tabs separate the columns.
    """
    content = _text(path).lstrip("\n")
    content = re.sub(r"^sep=.\n+", "", content)  # a line of spreadsheets
    try:
        header = content.partition("\n")[0]
        # no SMILES holds one of these, and the right one makes the most columns; csv.Sniffer would try all characters
        names = {each: [name.strip() for name in next(csv.reader([header], delimiter=each), [])] for each in ",;\t"}
        ordered = sorted(names, key=lambda each: -len(names[each]))
        found = {
            each: smiles_column(names[each]) if named is None else find_column(names[each], named) for each in ordered
        }
        separator = next((each for each in ordered if found[each] is not None), ordered[0])
        columns, column = names[separator], found[separator]
        if column is None:
            there = ", ".join(columns) or "none"
            if named is not None:
                raise GraftError(f"{path} has no column {named!r} of SMILES; there are: {there}")
            raise GraftError(
                f"{path} has no column 'smiles' or 'canonical_smiles'; there are: {there}. Name one with smiles_column"
            )
        for row in _rows(content, separator)[1:]:
            if row:
                cells = {name: cell.strip() for name, cell in zip(columns, row, strict=False)}
                yield Smiles(cells.get(column, ""), {name: "" for name in columns} | cells)
    except csv.Error as error:
        raise GraftError(f"{path} is no table ({error})") from None


def _rows(content: str, separator: str) -> list[list[str]]:
    """Return the rows of a table; a quote without an end spoils its own line alone."""
    try:
        return list(csv.reader(io.StringIO(content, newline=""), delimiter=separator, strict=True))
    except csv.Error:
        return [next(csv.reader([line], delimiter=separator), []) for line in text.lines(content)]


def plain(name: str) -> str:
    """Return the name of a column in lower case, without spaces and underscores."""
    return re.sub(r"[\W_]", "", name).lower()


def find_column(names: Sequence[str], wanted: str) -> "str | None":
    """Return the name that is ``wanted``, or the only one that differs in case, spaces and underscores; else None."""
    if wanted in names:
        return wanted
    alike = [name for name in names if plain(name) == plain(wanted)]
    return alike[0] if len(alike) == 1 else None


def smiles_column(names: Sequence[str]) -> "str | None":
    """Return the column that holds SMILES, or None.

    It is the first of ``smiles``, ``isomeric_smiles`` and ``canonical_smiles``, in any case, with or without
    underscore; or else the only column with ``smiles`` in its name.
    """
    found = {plain(name): name for name in reversed(names)}
    for name in ("smiles", "isomericsmiles", "canonicalsmiles"):
        if name in found:
            return found[name]
    # a name with a separator is that of several columns
    alike = [name for name in names if "smiles" in plain(name) and not re.search(r'[,;\t"]', name)]
    return alike[0] if len(alike) == 1 else None


TABLES = (".csv", ".tsv", ".txt")
"""Suffixes of tables with a header."""
KINDS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".sdf": _sdf,
    ".mol": _sdf,
    ".xyz": _xyz,
    ".smi": _smi,
    **dict.fromkeys(TABLES, _table),
}
"""Reader for each suffix; ``.gz`` may follow it."""
