"""Where molecules come from: enumerated ones, QM9 arrays, SDF files; all as atomic numbers and positions."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from domains.molecules.enumeration import embed, enumerate_molecules
from graft.errors import GraftError

Arrays = dict[str, NDArray[Any]]
"""``num_atoms`` (M,), ``charges`` (M, N) atomic numbers with 0 as padding, ``positions`` (M, N, 3) Å; no pickles."""

_VERSION = 1  # of the cache's content: raised whenever enumeration or embedding gives something else


def read(source: str, max_heavy_atoms: int, embedded: "int | None" = None) -> tuple[Arrays, dict[str, int]]:
    """The molecules of a source, hydrogens included, and how many records were left out and why.

    Args:
        source: ``enumerated``, or the path of a ``.npz`` in the arrays of EDM's QM9 files, or of an ``.sdf``.
        max_heavy_atoms: Enumerate up to this many; for files it has no effect here.
        embedded: Embed only so many of the enumerated molecules, always the same ones; None: all.

    Raises:
        GraftError: The source is unknown, or its file is missing or holds something else.
    """
    if source == "enumerated":
        some = "" if embedded is None else f"-{embedded}"
        path = cache_folder() / f"enumerated-{max_heavy_atoms}{some}-v{_VERSION}.npz"
        if not path.exists():
            smiles = enumerate_molecules(max_heavy_atoms)
            chosen = np.random.default_rng(0).permutation(len(smiles))[:embedded]
            arrays = embed(smiles if embedded is None else [smiles[i] for i in sorted(chosen)])
            replace(path, lambda temporary: np.savez_compressed(temporary, **arrays))  # type: ignore[arg-type]
        return _npz(path), {}
    path = Path(source)
    readers: dict[str, Callable[[], tuple[Arrays, dict[str, int]]]] = {
        ".npz": lambda: (_npz(path), {}),
        ".sdf": lambda: _sdf(path),
    }
    if path.suffix.lower() not in readers:
        raise GraftError(
            f"unknown source of molecules {source!r}: give 'enumerated', or a path that ends in .npz or .sdf"
        )
    if not path.is_file():
        raise GraftError(f"there is no file {source!r} to read molecules from")
    return readers[path.suffix.lower()]()


def cache_folder() -> Path:
    """``$GRAFT_CACHE``, ``$XDG_CACHE_HOME/graft`` or ``~/.cache/graft``, the first that is set."""
    if own := os.environ.get("GRAFT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "graft"


def replace(path: Path, write: Callable[[str], object]) -> None:
    """Write a file beside ``path`` and move it there, so that no half-written file is ever seen under that name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
    os.close(handle)
    try:
        write(temporary)
        os.chmod(temporary, 0o644)  # mkstemp makes files that others may not read
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _npz(path: Path) -> Arrays:
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("num_atoms", "charges", "positions")}
    except KeyError as error:
        raise GraftError(
            f"{path} has no array {error.args[0].split()[0]!r}: num_atoms, charges, positions are needed"
        ) from None
    except Exception:  # numpy, zipfile and zlib raise a dozen kinds
        raise GraftError(f"{path} is not a .npz file that can be read without pickle") from None
    counts, charges, positions = arrays.values()
    kinds = counts.dtype.kind in "iu" and charges.dtype.kind in "iu" and positions.dtype.kind == "f"
    fit = charges.ndim == 2 and counts.shape == charges.shape[:1] and positions.shape == (*charges.shape, 3)
    if not (kinds and fit and ((counts >= 0) & (counts <= charges.shape[1])).all() and np.isfinite(positions).all()):
        raise GraftError(
            f"{path} holds no molecules: num_atoms (M,) of at most N, charges (M, N) whole numbers, positions (M, N, 3)"
        )
    return arrays


def _sdf(path: Path) -> tuple[Arrays, dict[str, int]]:
    left_out = {"unparseable": 0, "without a 3-D structure": 0}
    kept: list[tuple[NDArray[Any], NDArray[Any]]] = []
    for mol, why in records(path):
        if mol is None:
            left_out[why] += 1
        else:
            kept.append(atoms(mol))
    return packed(kept), left_out


def records(path: Path) -> Iterator[tuple[Any, str]]:
    """The molecules of an SDF file, hydrogens added where they are implicit; (None, why) for what cannot be used.

    Raises:
        GraftError: It is no SDF file.
    """
    with rdBase.BlockLogs():
        try:
            supplier = Chem.SDMolSupplier(str(path), sanitize=False, removeHs=False)
            count = len(supplier)
        except (OSError, RuntimeError, ValueError):
            raise GraftError(f"{path} is no SDF file, or an empty one") from None
        for index in range(count):
            try:
                yield _record(supplier[index])
            except (OSError, RuntimeError, ValueError, IndexError):  # RDKit's, of what it cannot make sense of
                yield None, "unparseable"


def _record(mol: Any) -> tuple[Any, str]:
    if mol is None or mol.GetNumAtoms() == 0:
        return None, "unparseable"
    if not mol.GetConformer().Is3D() or not np.isfinite(mol.GetConformer().GetPositions()).all():
        return None, "without a 3-D structure"
    if mol.NeedsUpdatePropertyCache():
        mol.UpdatePropertyCache(strict=False)
    Chem.SanitizeMol(mol, catchErrors=True)  # the directions of hydrogens need the hybridisation
    return Chem.AddHs(mol, addCoords=True), ""


def atoms(mol: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """(n,) atomic numbers and (n, 3) positions, Å."""
    return np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()]), mol.GetConformer().GetPositions()


def packed(molecules: "list[tuple[NDArray[Any], NDArray[Any]]]") -> Arrays:
    """Molecules of `atoms` as arrays."""
    counts = np.array([len(z) for z, _ in molecules], np.int64)
    charges = np.zeros((len(molecules), max(counts, default=1)), np.int64)
    positions = np.zeros((*charges.shape, 3))
    for i, (z, x) in enumerate(molecules):
        charges[i, : len(z)], positions[i, : len(z)] = z, x
    return {"num_atoms": counts, "charges": charges, "positions": positions}
