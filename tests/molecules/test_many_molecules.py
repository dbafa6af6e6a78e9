"""Many molecules are read in several processes, with the same result as in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from domains.molecules import dataset, entries, processes
from domains.molecules.data import MoleculeData
from graft.core import threads
from graft.reward.worker import Worker

SMILES = [
    "CCO",
    "c1ccccc1O",
    "C[Na]",
    "not a molecule",
    "CC(C)N",
    "O=C1CCCN1",
    "C" * 40,
    "CC#N",
    "FC(F)F",
    "C1CC1C(=O)O",
]


def read(path: Path, most: int | None) -> MoleculeData:
    data = MoleculeData(str(path), convention="drug_like", max_heavy_atoms=16, max_embedded=most)
    data.prepare_data()
    data.setup("fit")
    return data


@pytest.mark.parametrize("most", [None, 5])
def test_the_same_as_in_one_process(most: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "some.smi"
    path.write_text("\n".join(SMILES))
    monkeypatch.setattr(threads, "cores", lambda: 1)
    expected = read(path, most)
    monkeypatch.setattr(threads, "cores", lambda: 2)
    started: list[str] = []
    start = Worker.start
    monkeypatch.setattr(Worker, "start", lambda self: (started.append(self.path), start(self))[1])
    for module in (dataset, entries):
        monkeypatch.setattr(module, "CHUNK", 3)
    got = read(path, most)
    assert {"graphs_of_chunk", "prepare_chunk"} <= {path.split(".")[-1] for path in started}
    assert got.left_out == expected.left_out and got.keys() == expected.keys()
    for name in ("types", "pos", "counts"):
        assert torch.equal(getattr(got.train_set, name), getattr(expected.train_set, name))


def test_an_error_ends_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    with pytest.raises(RuntimeError, match="could not convert"):
        list(processes.map_in_processes(float, ["1", "one", "3"]))
    assert list(processes.map_in_processes(float, [str(i) for i in range(9)])) == list(range(9))
