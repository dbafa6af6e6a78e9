"""Molecules from a source (enumeration, QM9, files) as atomic numbers and positions."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.molecules import qm9, records
from domains.molecules.builder import build
from domains.molecules.conformers import relax_conformer
from domains.molecules.enumeration import embed, enumerate_molecules
from domains.molecules.vocabulary import EXPLICIT
from graft.errors import GraftError
from graft.io.atomic import write_with

Arrays = dict[str, NDArray[Any]]
"""``num_atoms`` (M,), ``charges`` (M, N) atomic numbers with 0 as padding, ``positions`` (M, N, 3) Å; no pickles."""

_VERSION = 1  # version of the cache, raised when enumeration or embedding changes its results


def read(
    source: str, max_heavy_atoms: int, embedded: "int | None" = None, clean: bool = False
) -> tuple[Arrays, dict[str, int]]:
    """Return the molecules of a source and the number of invalid records by reason.

    Molecules include their hydrogens.

    Args:
        source: ``enumerated``; ``qm9:train``, ``qm9:valid`` or ``qm9:test``; or the path of a ``.npz`` in the arrays of
            EDM's QM9 files, or of a file of `records.KINDS`.
        max_heavy_atoms: Largest size that is enumerated; it has no effect on files.
        embedded: Number of enumerated molecules that are embedded, always the same ones; None for all.
        clean: Relax the conformers of `records.KINDS` by MMFF94.

    Raises:
        GraftError: The source is unknown, or its file is missing or invalid.
    """
    if source == "enumerated":
        some = "" if embedded is None else f"-{embedded}"
        path = cache_folder() / f"enumerated-{max_heavy_atoms}{some}-v{_VERSION}.npz"
        if not path.exists():
            smiles = enumerate_molecules(max_heavy_atoms)
            chosen = np.random.default_rng(0).permutation(len(smiles))[:embedded]
            arrays = embed(smiles if embedded is None else [smiles[i] for i in sorted(chosen)])
            write_with(path, lambda temporary: np.savez_compressed(temporary, **arrays))  # type: ignore[arg-type]
        return _npz(path), {}
    if source.partition(":")[0] == "qm9":
        return pad_arrays(qm9.read(source.partition(":")[2] or "train", str(cache_folder() / "qm9"))), {}
    path = Path(source)
    if path.suffix.lower() not in (".npz", *records.KINDS):
        kinds = ", ".join(records.KINDS)
        raise GraftError(
            f"unknown source of molecules {source!r}: give 'enumerated', 'qm9:train', or a path that ends in .npz, "
            f"{kinds}"
        )
    if not path.is_file():
        raise GraftError(f"there is no file {source!r} to read molecules from")
    return (_npz(path), {}) if path.suffix.lower() == ".npz" else _file(path, clean)


def cache_folder() -> Path:
    """Return ``$GRAFT_CACHE``, ``$XDG_CACHE_HOME/graft`` or ``~/.cache/graft``.

    The first that is set counts.
    """
    if own := os.environ.get("GRAFT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graft"


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


def _file(path: Path, clean: bool) -> tuple[Arrays, dict[str, int]]:
    left_out: Counter[str] = Counter()
    kept: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for record in records.read(path):
        mol, why = record.molecule()
        if mol is None:
            left_out[why if why in (records.UNREADABLE, records.FLAT, records.CHARGED) else _EMBEDDED] += 1
        else:
            kept.append(atoms(relax_or_build_bonds(mol) if clean else mol))
    return pad_arrays(kept), dict(left_out)


_EMBEDDED = "no SMILES of a molecule that can be embedded"


def relax_or_build_bonds(mol: Any) -> Any:
    """Return a molecule relaxed by MMFF94.

    A molecule without bonds (XYZ) first gets those of the distance rule.
    """
    if mol.GetNumBonds() == 0:
        z, x = atoms(mol)
        if not set(z.tolist()) <= set(EXPLICIT.elements.tolist()):
            return mol  # `to_graphs` counts the molecule as invalid
        types = np.array([[EXPLICIT.index[int(n), 0] for n in z]])
        mol = build(types, x[None], np.array([len(z)]), EXPLICIT)[0]
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
