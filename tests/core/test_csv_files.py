"""No cell that graft writes is a formula of a spreadsheet, and graft reads its cells back unchanged."""

import csv
import io
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.io import csv_files
from graft.io.csv_files import FORMULA, csv_text, escape_formula, unescape_formula
from graft.io.invalid_records import invalid_records_csv
from graft.rounds.summary import accepted_csv

EVIL = ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "'=1"]


@pytest.mark.parametrize("value", EVIL)
def test_formulas_are_text(value: str) -> None:
    assert not escape_formula(value).startswith(FORMULA) and unescape_formula(escape_formula(value)) == value


@pytest.mark.parametrize("value", ["-1.5", "+2", "1e-3", "-inf", "c1ccccc1", "", "'", "it's", -1.5, 3, None, "[NH4+]"])
def test_numbers_and_plain_text_stay(value: object) -> None:
    assert escape_formula(value) == value
    assert not isinstance(value, str) or unescape_formula(value) == value


@settings(max_examples=200, derandomize=True)
@given(st.text(alphabet="=+-@'\t\r a1.", max_size=8))
def test_round_trip(value: str) -> None:
    assert unescape_formula(escape_formula(value)) == value


def test_numbers_in_a_table() -> None:
    """A float is read back exactly, None is an empty cell, and heads are protected like cells."""
    text = csv_text(("a", "=b"), [(0.1 + 0.2, None), (3, "-x")], line_end="\r\n")
    assert text == "a,'=b\r\n0.30000000000000004,\r\n3,'-x\r\n"


def test_one_place_writes_tables() -> None:
    """No other file of the packages writes CSV, which would have no protection."""
    root = Path(csv_files.__file__).parents[2]
    sources = [path for folder in ("graft", "domains") for path in (root / folder).rglob("*.py")]
    writers = [path.name for path in sources if re.search(r"csv\.(Dict)?[wW]riter\(", path.read_text(encoding="utf-8"))]
    assert writers == ["csv_files.py"]


def test_tables() -> None:
    rows = list(csv.reader(io.StringIO(invalid_records_csv([(1, EVIL[0]), ("=file", "why")]))))
    assert rows == [["record", "why"], ["1", "'=1+1"], ["'=file", "why"]]
    accepted = accepted_csv(torch.tensor([0]), torch.tensor([1.0]), [-2.5], ["=key"])
    assert list(csv.reader(io.StringIO(accepted)))[1] == ["0", "'=key", "-2.5", "1.0"]
