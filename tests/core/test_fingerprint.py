"""Fingerprints: different values have different ones, and an object whose state changes keeps its own."""

import collections
import datetime
import decimal
import enum
import fractions
import functools
import re
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from graft.io.fingerprint import fingerprint, fingerprint_hash


class Mode(enum.Enum):
    FAST = 1
    EXACT = 2


@dataclass(slots=True)
class Slotted:
    size: int


class Base:
    __slots__ = ("size",)


class Mixed(Base):
    def __init__(self, size: int) -> None:
        self.size = size
        self.name = "mixed"


PAIRS: list[tuple[Any, Any]] = [
    (functools.partial(max, 1), functools.partial(max, 2)),
    (functools.partial(max, key=abs), functools.partial(max)),
    (functools.partial(torch.nn.functional.gelu, approximate="tanh"), functools.partial(torch.nn.functional.gelu)),
    (Mode.FAST, Mode.EXACT),
    (Slotted(1), Slotted(2)),
    (Mixed(1), Mixed(2)),
    (b"a", b"b"),
    (1j, 2j),
    (np.float32(1), np.float32(2)),
    (np.dtype("f4"), np.dtype("f8")),
    (torch.float16, torch.float32),
    (re.compile("a"), re.compile("b")),
    (datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)),
    (decimal.Decimal("1"), decimal.Decimal("2")),
    (fractions.Fraction(1, 2), fractions.Fraction(1, 3)),
    (range(3), range(4)),
    (slice(1), slice(2)),
    (collections.deque([1]), collections.deque([2])),
]


class Holder:
    """An object with a value among its attributes, such as the activation of a network."""

    def __init__(self, value: Any) -> None:
        self.value = value


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=[type(first).__name__ for first, _ in PAIRS])
def test_values_differ(first: Any, second: Any) -> None:
    assert fingerprint_hash(first) != fingerprint_hash(second)
    assert fingerprint_hash(Holder(first)) != fingerprint_hash(Holder(second))
    assert fingerprint_hash(Holder(first)) == fingerprint_hash(Holder(first))


def test_state_that_changes_does_not_count() -> None:
    generator = torch.Generator()
    before = fingerprint_hash(Holder(generator))
    torch.rand(1, generator=generator)
    assert fingerprint_hash(Holder(generator)) == before
    for first, second in (
        (threading.Lock(), threading.Lock()),
        (np.random.default_rng(0), np.random.default_rng(1)),
        (torch.device("cpu"), torch.device("meta")),
    ):
        assert fingerprint(first) == fingerprint(second)
