"""For any file a reader has a result or one clear error: files of rounds, runs, weights and checkpoints."""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mangle import mangled, values

from graft import GraftError, runs
from graft.commands.compare import rows
from graft.commands.levels.results import Analysis
from graft.core.datatypes import Chunk
from graft.io.foreign_weights import load_state_dict
from graft.io.json_files import read_checked_json, write_checked_json
from graft.io.tensors import read_tensors, write_tensors
from graft.reward import Scores
from graft.rounds import RoundStore, RoundSummary
from graft.runs.checkpoint import ChecksummedCheckpointIO, read_checkpoint
from graft.runs.logger import read_metrics


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


def attempt(read: Callable[[], Any]) -> None:
    try:
        read()
    except GraftError as error:
        assert str(error).strip()


def a_round(folder: Path) -> RoundStore:
    store = RoundStore(folder, {"steps": 2}, [3, 2], "reward")
    for index, count in enumerate(store.chunk_sizes):
        store.write_chunk(index, Chunk(torch.ones(count, 2), {0.5: torch.zeros(count, 2)}, {"n": torch.arange(count)}))
        store.write_scores(index, Scores([1.5] * (count - 1) + [float("nan")], {count - 1: "no"}), ["a"] * count)
    RoundSummary(0, "reference", 5, 1, 0.2, 1.0, None, 2, 0, 1.0, 1.5, 1.0, 10, 5, {"no": 2}).write(
        folder, torch.tensor([0]), torch.tensor([1.0])
    )
    return store


def read_round(path: Path) -> None:
    store = RoundStore(path.parent, None, [3, 2], "reward")
    store.read_chunk(0)
    if store.has_scores(0):
        store.reward_calls(0), store.pending_retries(0), store.scores()
    store.proxy_scores(0, "reward", lambda: [1.0] * 3)
    RoundSummary.read(path.parent)


def checkpoint(path: Path) -> None:
    state = {"state_dict": {"a": torch.ones(3)}, "global_step": 1, "loops": {}, "pytorch-lightning_version": "2"}
    ChecksummedCheckpointIO().save_checkpoint(
        {**state, "graft": {"reference": None}, "callbacks": {"x": [1.0, None]}}, path
    )


def state_dict(path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(3)}}, path)


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


KINDS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any]]] = {
    "chunk": ("chunk_00000.safetensors", lambda path: a_round(path.parent), read_round),
    "scores": ("scores_00000.json", lambda path: a_round(path.parent), read_round),
    "account": ("round.json", lambda path: a_round(path.parent), read_round),
    "weights": (
        "a.safetensors",
        lambda path: write_tensors(path, {"backbone/a": torch.ones(3)}, {"level": 0.5}),
        load_state_dict,
    ),
    "torch file": ("a.pt", state_dict, load_state_dict),
    "checkpoint": ("last.ckpt", checkpoint, read_checkpoint),
    "metrics": ("metrics.csv", text("step,a,b\n1,0.5,\n2,,0.25\n"), read_metrics),
    "config": ("config.yaml", text("a: {b: [1, 2]}\nc: null\n"), lambda path: runs.first_difference(path, "a: 1")),
    "levels": (
        "levels.json",
        text('{"levels": [{"level": 0.5}], "level": 0.5}'),
        lambda path: Analysis.read(path.parent),
    ),
    "comparison": ("compare.csv", text("method,seed,reward\na,0,0.5\n"), rows.read_rows),
}


@pytest.mark.parametrize("kind", KINDS)
@few
@given(data=st.data())
def test_mangled(kind: str, data: st.DataObject) -> None:
    """Bytes changed, lost and added; another file altogether; text and JSON of any shape."""
    name, write, read = KINDS[kind]
    path = fresh() / name
    write(path)
    path.write_bytes(data.draw(mangled(path.read_bytes())))
    attempt(lambda: read(path))


@pytest.mark.parametrize("name", ["scores_00000.json", "proxy_00000.json", "round.json"])
@few
@given(data=st.data())
def test_json_whose_hash_fits(name: str, data: st.DataObject) -> None:
    """The content is of another program, with the right format and hash and a wrong meaning."""
    folder = fresh()
    a_round(folder)
    path = folder / name
    content = read_checked_json(path, "") if path.exists() else {"reward": "reward", "values": [1.0], "keys": [""]}
    key = data.draw(st.sampled_from([*sorted(content), "failures", "again", "unknown"]))
    write_checked_json(path, {**content, key: data.draw(values)})
    attempt(lambda: read_round(path))


NAMED = st.dictionaries(st.sampled_from(["state", "condition/n", "step/1", "x"]), st.integers(0, 4))


@few
@given(sizes=NAMED, steps=values, recorded=values)
def test_tensors_of_something_else(sizes: dict[str, int], steps: Any, recorded: Any) -> None:
    folder = fresh()
    path = folder / "chunk_00000.safetensors"
    write_tensors(
        path, {name: torch.zeros(size, 2) for name, size in sizes.items()}, {"steps": steps, "recorded": recorded}
    )
    attempt(lambda: RoundStore(folder, None, [3, 2], "reward").read_chunk(0))


@few
@given(about=values)
def test_tensors_are_read_as_they_were_written(about: Any) -> None:
    path = fresh() / "a.safetensors"
    write_tensors(path, {"a": torch.ones(2), "b": torch.zeros(0, 3)}, {"about": about})
    tensors, read = read_tensors(path)
    assert sorted(tensors) == ["a", "b"] and json.dumps(read["about"]) == json.dumps(about)


def test_every_byte_counts(tmp_path: Path) -> None:
    """A file with one changed byte is refused, or has the same content."""
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.arange(6.0)}, {"level": 0.5, "origin": {"seed": 1}})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            tensors, about = read_tensors(path)
        except GraftError:
            continue
        assert torch.equal(tensors["a"], torch.arange(6.0)) and about == {"level": 0.5, "origin": {"seed": 1}}
    buffer = io.BytesIO(whole)
    assert buffer.getbuffer().nbytes == len(whole)


def test_every_byte_of_a_checkpoint_counts(tmp_path: Path) -> None:
    """A changed byte is named as such, in the tensors and in the pickled values, before anything is unpickled."""
    path = tmp_path / "last.ckpt"
    checkpoint(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        contents = [archive.read(each) for each in archive.infolist() if each.file_size]
    for content in contents:
        start = whole.index(content)
        for place in range(start, start + len(content)):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(GraftError, match=r"last\.ckpt was changed since it was written .*--ckpt_path"):
                read_checkpoint(path)
