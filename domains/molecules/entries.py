"""Records of files as molecules with one conformer each, and as padded arrays."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from domains.molecules.builder import build
from domains.molecules.conformers import SECONDS, Embedded, embed_all, relax_conformer
from domains.molecules.processes import CHUNK, map_in_processes
from domains.molecules.records import Record
from domains.molecules.standardise import Standard, Standardised, standardise
from domains.molecules.vocabulary import ATOMS, EXPLICIT, NodeType
from graft.core.progress import progress

Arrays = dict[str, NDArray[Any]]
"""Molecules with their hydrogens, as in EDM's QM9 files; no pickles.

``num_atoms`` (M,), ``charges`` (M, N) atomic numbers with 0 as padding, ``positions`` (M, N, 3) Å. Molecules of files
also have ``formal_charges`` (M, N) and ``smiles`` (M,), which is "" if the file has no bonds.
"""


@dataclass(frozen=True)
class Reading:
    """Settings with which a file of molecules is read.

    Args:
        standard: Vocabulary, largest sizes, and the treatment of salts and charges.
        smiles_column: Column of the SMILES in a table; None for a column of that name.
        max_embedded: Number of SMILES that are embedded, always the same ones; None for all.
        seconds: Limit of the embedding of one molecule.
        workers: Number of processes that embed; None for the number of cores.
    """

    standard: Standard = field(default_factory=lambda: Standard(EXPLICIT))
    smiles_column: "str | None" = None
    max_embedded: "int | None" = None
    seconds: float = SECONDS
    workers: "int | None" = None


class Entry(NamedTuple):
    """A molecule of a file with one conformer.

    Attributes:
        number: Number of its record, counted from 1.
        record: Its record.
        smiles: Its SMILES, "" without bonds.
        identity: Its SMILES with isotopes: records of one identity are the same molecule.
        molecule: Function that returns the molecule with hydrogens.
        elements: (n,) atomic numbers.
        charges: (n,) formal charges.
        positions: (n, 3) Å.
    """

    number: int
    record: Record
    smiles: str
    identity: str
    molecule: Callable[[], Any]
    elements: NDArray[Any]
    charges: NDArray[Any]
    positions: NDArray[Any]


def entries_of(numbered: Iterable[tuple[int, Record]], reading: Reading) -> tuple[list[Entry], list[tuple[int, str]]]:
    """Return the molecules of records with one conformer each, and (record, reason) of the invalid ones.

    All checks come before any embedding. SMILES are embedded by `embed_all`.

    Raises:
        GraftError: A setting is out of range.
    """
    entries: list[Entry] = []
    left_out: list[tuple[int, str]] = []
    waiting: list[tuple[int, Record]] = []
    for number, record in numbered:
        if not record.has_structure:
            waiting.append((number, record))
        else:
            entry = _entry(number, record, reading.standard)
            if isinstance(entry, Entry):
                entries.append(entry)
            else:
                left_out.append((number, entry))
    order: Sequence[int] = range(len(waiting))
    if reading.max_embedded is not None:
        order = np.random.default_rng(0).permutation(len(waiting)).tolist()
    chosen: list[tuple[int, Record, Standardised]] = []
    most = len(waiting) if reading.max_embedded is None else reading.max_embedded
    taken = 0
    while taken < len(order) and len(chosen) < most:
        some = [waiting[i] for i in order[taken : taken + most - len(chosen)]]
        taken += len(some)
        for (number, record), found in zip(some, _prepared_all(some, reading.standard), strict=True):
            if isinstance(found, str):
                left_out.append((number, found))
            else:
                chosen.append((number, record, found))
    chosen.sort(key=lambda each: each[0])
    answers = embed_all([found.smiles for _, _, found in chosen], reading.seconds, reading.workers)
    for (number, record, found), answer in zip(chosen, answers, strict=True):
        if isinstance(answer, Embedded):
            parts = answer.elements, answer.charges, answer.positions
            entries.append(Entry(number, record, found.smiles, found.identity, answer.molecule, *parts))
        else:
            left_out.append((number, f"{answer}: {record.title}"))
    return sorted(entries, key=lambda entry: entry.number), sorted(left_out)


def _prepared_all(numbered: Sequence[tuple[int, Record]], standard: Standard) -> "Iterator[Standardised | str]":
    """Yield the standardised molecule of each record, without its molecule, or the reason why there is none."""
    records = [record for _, record in numbered]
    chunks = [(records[start : start + CHUNK], standard) for start in range(0, len(records), CHUNK)]
    with progress("reading molecules", len(records), "molecule", delay=2) as bar:
        for found in map_in_processes(prepare_chunk, chunks):
            bar.update(len(found))
            yield from found


def prepare_chunk(given: tuple[Sequence[Record], Standard]) -> "list[Standardised | str]":
    """Return the standardised molecules of some records, without RDKit's, many of which would fill the memory."""
    records, standard = given
    found = (_prepared(record, standard) for record in records)
    return [each if isinstance(each, str) else each._replace(mol=None) for each in found]


def _prepared(record: Record, standard: Standard) -> "Standardised | str":
    """Return the standardised molecule of a record, or the reason why there is none."""
    mol, why = record.parsed()
    if mol is not None:
        found = standardise(mol, standard, record.bare)
        if found.mol is not None:
            return found
        why = found.why
    return f"{why}: {record.title}" if record.title else why


def _entry(number: int, record: Record, standard: Standard) -> "Entry | str":
    """Return the molecule of a record with a structure, or the reason why there is none."""
    found = _prepared(record, standard)
    if isinstance(found, str):
        return found
    mol = found.mol
    if not record.bare:
        with rdBase.BlockLogs():
            mol = Chem.AddHs(mol, addCoords=True)
    packed = mol.ToBinary()  # a molecule in memory is many times as large
    return Entry(number, record, found.smiles, found.identity, lambda: Chem.Mol(packed), *_parts(mol))


def _parts(mol: Any) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return (n,) atomic numbers, (n,) formal charges and (n, 3) positions, Å."""
    elements, positions = atoms(mol)
    return elements, np.array([atom.GetFormalCharge() for atom in mol.GetAtoms()], np.int8), positions


def relax_entry(entry: Entry) -> Entry:
    """Return a molecule with its conformer relaxed by MMFF94."""
    elements, charges, positions = _parts(relax_or_build_bonds(entry.molecule()))
    return entry._replace(elements=elements, charges=charges, positions=positions)


def notes_of(entries: Sequence[Entry]) -> list[str]:
    """Return sentences on what the molecules lose without being invalid."""
    isotopes = [entry for entry in entries if entry.identity != entry.smiles]
    if not isotopes:
        return []
    first = isotopes[0]
    return [
        f"{len(isotopes)} {'record has' if len(isotopes) == 1 else 'records have'} isotopes, which the model does not "
        "represent "
        f"(record {first.number}: {first.record.title or first.smiles})"
    ]


def arrays_of(entries: Sequence[Entry]) -> Arrays:
    """Return the molecules as padded arrays, with formal charges and SMILES."""
    arrays = pad_arrays([(entry.elements, entry.positions) for entry in entries])
    charges = np.zeros(arrays["charges"].shape, np.int8)
    for row, entry in zip(charges, entries, strict=True):
        row[: len(entry.charges)] = entry.charges
    return arrays | {"formal_charges": charges, "smiles": np.array([entry.smiles for entry in entries], dtype=np.str_)}


def relax_or_build_bonds(mol: Any) -> Any:
    """Return a molecule relaxed by MMFF94.

    A molecule without bonds (XYZ) first gets bonds by valence, with all of its atoms neutral.
    """
    if mol.GetNumBonds() == 0:
        z, x = atoms(mol)
        if not set(z.tolist()) <= set(ATOMS.elements.tolist()):
            return mol  # `to_graphs` counts the molecule as invalid
        types = np.array([[ATOMS.index[NodeType(int(n))] for n in z]])
        mol = build(types, x[None], np.array([len(z)]), ATOMS)[0]
    return relax_conformer(mol)


def atoms(mol: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return (n,) atomic numbers and (n, 3) positions, Å."""
    return np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()]), mol.GetConformer().GetPositions()


def pad_arrays(molecules: "list[tuple[NDArray[Any], NDArray[Any]]]") -> Arrays:
    """Return molecules of `atoms` as padded arrays."""
    counts = np.array([len(z) for z, _ in molecules], np.int64)
    charges = np.zeros((len(molecules), max(counts, default=1)), np.int64)
    positions = np.zeros((*charges.shape, 3))
    for i, (z, x) in enumerate(molecules):
        charges[i, : len(z)], positions[i, : len(z)] = z, x
    return {"num_atoms": counts, "charges": charges, "positions": positions}
