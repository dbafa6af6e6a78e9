"""For any file of molecules, the readers have molecules or one clear error."""

import gzip
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rdkit import rdBase

from domains.molecules import sources
from domains.molecules.dataset import to_graphs
from domains.molecules.scored_files import read_scored_molecules as read_scored
from domains.molecules.vocabulary import HEAVY
from graft.errors import GraftError


def fresh() -> Path:
    """A folder; pytest's own would look through all that it made before."""
    return Path(tempfile.mkdtemp(dir=HERE[-1]))


HERE: list[str] = []


@pytest.fixture(autouse=True, scope="module")
def _folder() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        HERE.append(folder)
        yield


few = settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)

SDF = """\

     RDKit          3D

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0  0  0  0  0  0  0  0  0  0  0
    1.4000    0.1000    0.3000 O   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0
M  END
>  <score>  (1)
0.5

$$$$
"""
CSV = "smiles,score\nCO,0.5\nC,x\n,1\n"
XYZ = "2\nscore=0.5\nC 0 0 0\nO 1.4 0.1 8*^-3\n1341.3 13\n"
ARRAYS = {"num_atoms": np.array([1, 2]), "charges": np.array([[6, 0], [6, 8]]), "positions": np.ones((2, 2, 3))}


def whole(source: Path) -> None:
    """Return the molecules as pre-training reads them."""
    to_graphs(sources.read_source(str(source), 7)[0], HEAVY, 7)


def scored(source: Path) -> None:
    read_scored(source, "score", HEAVY, 7)


KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "sdf": ("a.sdf", whole),
    "npz": ("a.npz", whole),
    "scored sdf": ("a.sdf", scored),
    "scored csv": ("a.csv", scored),
    "xyz": ("a.xyz", whole),
    "scored xyz": ("a.xyz", scored),
    "compressed sdf": ("a.sdf.gz", whole),
}


def content(name: str, path: Path) -> bytes:
    if name == "a.npz":
        np.savez(path, **ARRAYS)  # type: ignore[arg-type]
        return path.read_bytes()
    if name == "a.sdf.gz":
        return gzip.compress((SDF * 2).encode())
    return {"a.sdf": SDF * 2, "a.csv": CSV, "a.xyz": XYZ * 2}[name].encode()


def attempt(read: Callable[[Path], Any], path: Path) -> None:
    with rdBase.BlockLogs():
        try:
            read(path)
        except GraftError as error:
            assert str(error).strip()


@pytest.mark.parametrize("kind", KINDS)
@few
@given(data=st.data())
def test_mangled(kind: str, data: st.DataObject) -> None:
    name, read = KINDS[kind]
    path = fresh() / name
    given_ = content(name, path)
    start = data.draw(st.integers(0, len(given_)))
    stop = min(len(given_), start + data.draw(st.integers(0, 60)))
    put = data.draw(st.binary(max_size=12) | st.text(max_size=12).map(str.encode))
    parts = [given_[:start] + put + given_[stop:], given_[:start], given_[:stop] + given_[start:], put]
    path.write_bytes(data.draw(st.sampled_from(parts)))
    attempt(read, path)


arrays = st.sampled_from([np.zeros(0), np.array([1, 2]), np.array([[1, 9]]), np.array("x"), np.array([np.nan, 1.0])])
shapes = arrays | st.sampled_from(
    [np.ones((2, 2, 3)), np.full((2, 2), 10**9), np.ones((2, 3), bool), np.ones((3, 2, 3))]
)


@few
@given(changed=st.fixed_dictionaries({}, optional={name: shapes for name in ARRAYS}))
def test_arrays_of_something_else(changed: dict[str, Any]) -> None:
    path = fresh() / "a.npz"
    np.savez(path, **{**ARRAYS, **changed})  # type: ignore[arg-type]
    attempt(whole, path)
