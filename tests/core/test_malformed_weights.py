"""Every reader refuses weights files with malformed headers in one sentence."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from graft import GraftError
from graft.io.foreign_weights import load_state_dict
from graft.io.format import FORMAT
from graft.io.tensors import read_tensors


def tensors_file(header: Any, body: bytes = b"\0" * 16, length: "int | None" = None) -> bytes:
    """A safetensors file: the header's length, the header, the tensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


TENSOR = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}


def with_about(about: Any) -> bytes:
    text = about if isinstance(about, str) else json.dumps(about)
    return tensors_file({"__metadata__": {"graft": text}, "backbone/w": TENSOR})


MALFORMED = {
    "empty": b"",
    "short": b"\x08\0\0",
    "a longer header than the file": tensors_file({"w": TENSOR}, length=2**40),
    "an enormous header": tensors_file({"w": TENSOR}, length=2**63),
    "no JSON": tensors_file(b"{not json"),
    "no text": tensors_file(b"\xff\xfe{}"),
    "a list": tensors_file([1, 2]),
    "nested deeply": tensors_file(b"[" * 100_000),
    "a tensor beyond the file": tensors_file({"w": {**TENSOR, "data_offsets": [0, 10**9]}}),
    "negative offsets": tensors_file({"w": {**TENSOR, "data_offsets": [-16, 0]}}),
    "another size than the shape's": tensors_file({"w": {**TENSOR, "shape": [5]}}),
    "an enormous shape": tensors_file({"w": {**TENSOR, "shape": [2**62, 2**62]}}),
    "an unknown type": tensors_file({"w": {**TENSOR, "dtype": "F7"}}),
    "metadata of another kind": tensors_file({"__metadata__": {"graft": {"format": 1}}, "w": TENSOR}),
    "an account nested deeply": with_about("[" * 100_000),
    "an account that is a number": with_about(5),
    "an account's format in words": with_about({"format": "new"}),
    "an account's format from the future": with_about({"format": 10**9}),
    "no hash": with_about({"format": FORMAT}),
    "another hash": with_about({"format": FORMAT, "sha256": "0" * 64}),
    "a hash of another kind": with_about({"format": FORMAT, "sha256": [1]}),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_header(name: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(MALFORMED[name])
    for read in (read_tensors, load_state_dict):
        if read is load_state_dict and name == "an account that is a number":
            continue  # another program's file with an entry of that name
        with pytest.raises(GraftError) as raised:
            read(path)
        assert "weights.safetensors" in str(raised.value) and len(str(raised.value)) < 500
