"""No cell that graft writes is a spreadsheet's formula, and what it reads back is what it wrote."""

import csv
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.rounds.summary import accepted_csv, invalid_records_csv
from graft.spreadsheet import FORMULA, cell, text

EVIL = ["=1+1", "+1+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "'=1"]


@pytest.mark.parametrize("value", EVIL)
def test_formulas_are_text(value: str) -> None:
    assert not cell(value).startswith(FORMULA) and text(cell(value)) == value


@pytest.mark.parametrize("value", ["-1.5", "+2", "1e-3", "-inf", "c1ccccc1", "", "'", "it's", -1.5, 3, None, "[NH4+]"])
def test_numbers_and_plain_text_stay(value: object) -> None:
    assert cell(value) == value
    assert not isinstance(value, str) or text(value) == value


@settings(max_examples=200, derandomize=True)
@given(st.text(alphabet="=+-@'\t\r a1.", max_size=8))
def test_round_trip(value: str) -> None:
    assert text(cell(value)) == value


def test_tables() -> None:
    rows = list(csv.reader(io.StringIO(invalid_records_csv([(1, EVIL[0]), ("=file", "why")]))))
    assert rows == [["record", "why"], ["1", "'=1+1"], ["'=file", "why"]]
    accepted = accepted_csv(torch.tensor([0]), torch.tensor([1.0]), [-2.5], ["=key"])
    assert list(csv.reader(io.StringIO(accepted)))[1] == ["0", "'=key", "-2.5", "1.0"]
