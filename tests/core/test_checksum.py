"""The checksum of a value counts all of it: values, types, shapes, names and positions."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from graft import GraftError
from graft.io.checksum import checksum, file_checksum
from graft.io.format import with_checksum, without_checksum
from graft.io.mapped import mapped_writer
from graft.io.tensors import read_tensors, write_tensors

EYE = torch.eye(2)
VALUES: dict[str, Any] = {
    "a tensor": EYE,
    "another value": EYE + 1e-6,
    "another type": EYE.double(),
    "another shape": EYE.reshape(4),
    "the same bits as integers": EYE.view(torch.int32),
    "an array": EYE.numpy(),
    "by name": {"a": EYE},
    "by another name": {"b": EYE},
    "in a list": [EYE],
    "twice": [EYE, EYE],
    "nested": [[EYE], EYE],
    "a number": 1,
    "a float": 1.0,
    "a text": "1",
    "bytes": b"1",
    "nothing": None,
}


def test_different_values_differ() -> None:
    assert len({checksum(value) for value in VALUES.values()}) == len(VALUES)


def test_equal_values_agree() -> None:
    assert checksum({"a": 1, "b": EYE}) == checksum({"b": EYE.clone(), "a": 1})
    assert checksum(EYE.T) == checksum(EYE) and checksum(EYE[::1, :]) == checksum(EYE)
    assert checksum(torch.arange(6).reshape(2, 3).T) == checksum(torch.arange(6).reshape(2, 3).T.contiguous())
    assert checksum(np.arange(6).reshape(2, 3).T) == checksum(np.arange(6).reshape(2, 3).T.copy())


def test_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 3_000_000)
    assert file_checksum(tmp_path / "a") == hashlib.sha256(b"a" * 3_000_000).hexdigest()


def test_both_writers_give_one_checksum(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).reshape(3, 2), "a": torch.tensor([1, 2, 3])}
    write_tensors(tmp_path / "a.safetensors", tensors, {"note": 1.5})
    with mapped_writer(tmp_path / "b.safetensors", 3, {"note": 1.5}) as mapped:
        for name, place in mapped(tensors).items():
            place.copy_(tensors[name])
    for file in ("a", "b"):
        found, about = read_tensors(tmp_path / f"{file}.safetensors")
        assert about == {"note": 1.5} and checksum(found) == checksum(tensors)


@pytest.mark.parametrize("change", [{"note": 2}, {"more": 1}, {"sha256": "0" * 64}, {"sha256": None}, {"format": 2}])
def test_a_change_of_the_metadata_is_found(change: dict[str, Any]) -> None:
    noted = with_checksum({"note": 1}, {"a": EYE})
    assert without_checksum("file", noted, {"a": EYE}, "mend it") == {"note": 1}
    with pytest.raises(GraftError, match=r"was changed.*mend it|another version"):
        without_checksum("file", {**noted, **change}, {"a": EYE}, "mend it")
    with pytest.raises(GraftError, match="was changed"):
        without_checksum("file", noted, {"a": EYE + 1}, "mend it")
