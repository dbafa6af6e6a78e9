"""Filters of records by the values of their properties or columns."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from domains.molecules.records import Record, find_column
from graft.errors import GraftError

_SHOWN = 8  # values of a column in a message


class PropertyFilters:
    """Conditions on the properties of records, which must all hold.

    A condition is a value, a list of values, or a range ``{low: 1, high: 5}`` of numbers, which includes its ends. Text
    is compared as it stands in the file, without quotes around it. A number also equals the same number in another
    form. Names of columns may differ in case, spaces and underscores.

    Args:
        conditions: Condition by the name of the column.

    Raises:
        GraftError: A condition is something else.
    """

    def __init__(self, conditions: "Mapping[str, Any] | None" = None) -> None:
        self.conditions = dict(conditions or {})
        for name, condition in self.conditions.items():
            _check(name, condition)
        self._values: dict[str, dict[str, None]] = {name: {} for name in self.conditions}  # found in the file
        self._passed: dict[str, bool] = dict.fromkeys(self.conditions, False)
        self._names: dict[str, None] = {}

    def passes(self, record: Record) -> bool:
        """Return True if all conditions hold for a record."""
        self._names |= dict.fromkeys(record.properties)
        holds = True
        for name, condition in self.conditions.items():
            text = value_of(record, name)
            if text is None:
                holds = False
                continue
            self._values[name][text] = None
            one = _holds(text, condition)
            self._passed[name] |= one
            holds &= one
        return holds

    def check(self, path: Any) -> None:
        """Raise GraftError if no record had a column, or if a condition held for none.

        Args:
            path: The file, for the message.
        """
        for name, condition in self.conditions.items():
            if not self._values[name]:
                there = ", ".join(self._names) or "none"
                raise GraftError(f"{path} has no column {name!r} to filter by; there are: {there}")
            if not self._passed[name]:
                values = list(self._values[name])
                there = ", ".join(map(repr, values[:_SHOWN])) + (", ..." if len(values) > _SHOWN else "")
                raise GraftError(f"{path} has no record whose {name} is {condition!r}; there are: {there}")


def value_of(record: Record, name: str) -> "str | None":
    """Return the value of a property, whose name may differ in case, spaces and underscores; None if there is none."""
    if name in record.properties:
        return record.properties[name]
    found = find_column(list(record.properties), name)
    return None if found is None else record.properties[found]


def _check(name: str, condition: Any) -> None:
    if isinstance(condition, Mapping):
        ends = [condition.get("low"), condition.get("high")]
        numbers = all(end is None or (isinstance(end, int | float) and not isinstance(end, bool)) for end in ends)
        if not set(condition) <= {"low", "high"} or ends == [None, None] or not numbers:
            raise GraftError(f"the filter of {name} is {dict(condition)}; a range has low, high or both, as numbers")
        return
    values = condition if isinstance(condition, list | tuple) else [condition]
    if not values or not all(isinstance(value, str | int | float) for value in values):
        raise GraftError(
            f"the filter of {name} is {condition!r}; give a value, a list of values, or {{low: 1, high: 5}}"
        )


def _holds(text: str, condition: Any) -> bool:
    if isinstance(condition, Mapping):
        number = finite_number(text)
        low, high = condition.get("low"), condition.get("high")
        return number is not None and (low is None or number >= low) and (high is None or number <= high)
    values: Iterable[Any] = condition if isinstance(condition, list | tuple) else [condition]
    return any(_equal(text, value) for value in values)


def _equal(text: str, value: Any) -> bool:
    bare = unquoted(text)
    if isinstance(value, bool):
        return bare.lower() == str(value).lower()
    return bare == unquoted(str(value)) or (isinstance(value, int | float) and finite_number(bare) == value)


def unquoted(text: str) -> str:
    """Return a text without the quotes around it that some exports write, as in ``'='``."""
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def finite_number(text: str) -> "float | None":
    """Return the number of a text; None if it is none, NaN or infinite."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
