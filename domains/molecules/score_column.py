"""The score of each record of a file, read from a property or column."""

import re
from collections.abc import Iterator
from pathlib import Path

from domains.molecules import records
from domains.molecules.filtering import PropertyFilters, finite_number, unquoted, value_of
from domains.molecules.records import Record
from graft.errors import GraftError

_CENSORED = re.compile(r"'?([<>≤≥]=?|>>|<<)'?\s*[-+]?[\d.]")
_CHOICES = ("standardrelation", "relation", "standardtype", "standardunits", "units")
"""Columns that tell scores apart which should not be averaged, as in exports of ChEMBL; compared in plain letters."""


class ScoreColumn:
    """Scores of the records that pass the filters.

    Attributes:
        values: Score by the number of its record.
        left_out: (record, reason) of the records without a score.
        filtered: Number of records that the filters remove.
    """

    def __init__(self, name: str, filters: PropertyFilters) -> None:
        self.name, self.filters = name, filters
        self.values: dict[int, float] = {}
        self.left_out: list[tuple[int, str]] = []
        self.filtered = 0
        self._found = False
        self._names: dict[str, None] = {}
        self._choices: dict[str, dict[str, None]] = {}

    def of(self, found: Iterator[Record]) -> Iterator[tuple[int, Record]]:
        """Yield (number, record) of the records that pass the filters and have a score."""
        for number, record in enumerate(found, 1):
            self._names |= dict.fromkeys(record.properties)
            text = value_of(record, self.name)
            self._found |= text is not None
            if not self.filters.passes(record):
                self.filtered += 1
                continue
            value = finite_number(text or "")
            if value is None:
                self.left_out.append((number, self._reason(text or "")))
                continue
            self.values[number] = value
            for name, choice in record.properties.items():
                if records.plain(name) in _CHOICES:
                    self._choices.setdefault(name, {})[unquoted(choice)] = None
            yield number, record

    def _reason(self, text: str) -> str:
        if _CENSORED.match(text):
            return f"a censored value: {self.name} is {text!r}"
        return f"no score: {self.name} is {text!r}" if text else f"no score: {self.name} is missing"

    def check(self, path: Path) -> None:
        """Raise GraftError if the file has no such score, or a filter leaves nothing."""
        if not self._found:
            what = "has no column" if records.suffix(path) in records.TABLES else "has no record with a property"
            raise GraftError(f"{path} {what} {self.name!r}; there are: {', '.join(self._names) or 'none'}")
        self.filters.check(path)

    @property
    def notes(self) -> list[str]:
        """Return what the filters removed, and the columns that tell scores apart."""
        mixed = [
            f"{name} has {len(values)} values ({', '.join(map(repr, list(values)[:4]))}{', ...' * (len(values) > 4)}), "
            "which data.source.filters can choose from"
            for name, values in self._choices.items()
            if len(values) > 1
        ]
        return [*([f"{self.filtered} records removed by filters"] if self.filtered else []), *mixed]
