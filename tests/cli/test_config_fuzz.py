"""For any configuration the command line builds its objects or refuses it in one sentence."""

import copy
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graft.cli.messages import user_message
from graft.cli.parser import parse_and_build
from graft.io.paths import find_file

few = settings(max_examples=8, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
CONFIG = yaml.safe_load(find_file("domains/molecule.yaml").read_text())
PLACES = [
    *[
        ("data", name)
        for name in ("draws", "accept", "reward", "source", "replay_rounds", "filters", "keep_last_rounds", "alarms")
    ],
    *[
        ("model", "init_args", name)
        for name in ("level", "steps", "backbone", "process", "tuning", "optimizer", "lora", "weights")
    ],
    *[("trainer", "max_epochs"), ("model", "class_path"), ("model",), ("data",), ("seed_everything",)],
]
leaves = st.none() | st.booleans() | st.integers(-2, 10**12) | st.floats() | st.text(max_size=6)
values = leaves | st.lists(leaves, max_size=2) | st.dictionaries(st.sampled_from(["class_path", "a", "rank"]), leaves)


@pytest.fixture(autouse=True, scope="module")
def _folder() -> Iterator[None]:
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        yield
        os.chdir(before)


def attempt(path: Path) -> None:
    try:
        parse_and_build("fit", ["--config", str(path)])
    except Exception as error:
        assert (user_message(error) or "").strip(), repr(error)
    except SystemExit as error:
        raise AssertionError(error) from error


@few
@given(place=st.sampled_from(PLACES), value=values)
def test_settings(place: tuple[str, ...], value: Any) -> None:
    content = copy.deepcopy(CONFIG)
    inner = content
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    path = Path("mine.yaml")
    path.write_text(yaml.safe_dump(content))
    attempt(path)


@few
@given(content=st.binary(max_size=30) | st.text(alphabet="ab:-[]{}!&*#|>%@\n 1.", max_size=30).map(str.encode))
def test_bytes(content: bytes) -> None:
    path = Path("mine.yaml")
    path.write_bytes(content)
    attempt(path)
