"""Molecules from a source (enumeration, QM9, files) as atomic numbers and positions."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from domains.molecules import qm9, records
from domains.molecules.cache import cache_folder
from domains.molecules.entries import Arrays, Reading, arrays_of, entries_of, notes_of, pad_arrays, relax_entry
from domains.molecules.enumeration import embed_enumerated, enumerate_molecules
from graft.errors import GraftError
from graft.io.atomic import write_with

_VERSION = 1  # version of the cache, raised when enumeration or embedding changes its results


class SourceMolecules(NamedTuple):
    """Molecules of a source.

    Attributes:
        arrays: The molecules.
        left_out: (record, reason) of each invalid record; records are counted from 1.
        numbers: Number of the record of each molecule.
        titles: Name or SMILES of each molecule, "" if it has none.
        notes: Sentences on the file that are no faults of a record.
    """

    arrays: Arrays
    left_out: list[tuple[int, str]]
    numbers: list[int]
    titles: list[str]
    notes: list[str]


def read_source(
    source: str,
    max_heavy_atoms: int,
    embedded: "int | None" = None,
    clean: bool = False,
    reading: "Reading | None" = None,
) -> SourceMolecules:
    """Return the molecules of a source and its invalid records.

    Args:
        source: ``enumerated``; ``qm9:train``, ``qm9:valid`` or ``qm9:test``; or the path of a ``.npz`` in the arrays of
            EDM's QM9 files, or of a file of `records.KINDS`.
        max_heavy_atoms: Largest size that is enumerated.
        embedded: Number of enumerated molecules that are embedded, always the same ones; None for all.
        clean: Relax the conformers of `records.KINDS` by MMFF94.
        reading: Settings for files of `records.KINDS`.

    Raises:
        GraftError: The source is unknown, or its file is missing or invalid.
    """
    if source == "enumerated":
        some = "" if embedded is None else f"-{embedded}"
        path = cache_folder() / f"enumerated-{max_heavy_atoms}{some}-v{_VERSION}.npz"
        if not path.exists():
            smiles = enumerate_molecules(max_heavy_atoms)
            chosen = np.random.default_rng(0).permutation(len(smiles))[:embedded]
            arrays = embed_enumerated(smiles if embedded is None else [smiles[i] for i in sorted(chosen)])
            write_with(path, lambda temporary: np.savez_compressed(temporary, **arrays))  # type: ignore[arg-type]
        return _unnamed(_npz(path))
    if source.partition(":")[0] == "qm9":
        return _unnamed(pad_arrays(qm9.read_qm9(source.partition(":")[2] or "train", str(cache_folder() / "qm9"))))
    path = Path(source)
    if path.suffix.lower() != ".npz" and records.suffix(path) not in records.KINDS:
        kinds = ", ".join(records.KINDS)
        raise GraftError(
            f"unknown source of molecules {source!r}: give 'enumerated', 'qm9:train', or a path that ends in .npz, "
            f"{kinds}, the last ones with or without .gz"
        )
    if not path.is_file():
        raise GraftError(f"there is no file {source!r} to read molecules from")
    return _unnamed(_npz(path)) if path.suffix.lower() == ".npz" else _file(path, clean, reading or Reading())


def _unnamed(arrays: Arrays) -> SourceMolecules:
    count = len(arrays["num_atoms"])
    return SourceMolecules(arrays, [], list(range(1, count + 1)), [""] * count, [])


def _npz(path: Path) -> Arrays:
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("num_atoms", "charges", "positions")}
    except KeyError as error:
        raise GraftError(
            f"{path} has no array {error.args[0].split()[0]!r}: num_atoms, charges, positions are needed"
        ) from None
    except Exception:  # numpy, zipfile and zlib raise errors of a dozen types
        raise GraftError(f"{path} is not a .npz file that can be read without pickle") from None
    counts, charges, positions = arrays.values()
    kinds = counts.dtype.kind in "iu" and charges.dtype.kind in "iu" and positions.dtype.kind == "f"
    fit = charges.ndim == 2 and counts.shape == charges.shape[:1] and positions.shape == (*charges.shape, 3)
    if not (kinds and fit and ((counts >= 0) & (counts <= charges.shape[1])).all() and np.isfinite(positions).all()):
        raise GraftError(
            f"{path} holds no molecules: num_atoms (M,) of at most N, charges (M, N) whole numbers, positions (M, N, 3)"
        )
    return arrays


def _file(path: Path, clean: bool, reading: Reading) -> SourceMolecules:
    numbered = enumerate(records.read_records(path, reading.smiles_column), 1)
    entries, left_out = entries_of(numbered, reading)
    if clean:
        entries = [relax_entry(entry) for entry in entries]
    arrays = arrays_of(entries)
    titles = [entry.record.title or entry.smiles for entry in entries]
    return SourceMolecules(arrays, left_out, [entry.number for entry in entries], titles, notes_of(entries))
