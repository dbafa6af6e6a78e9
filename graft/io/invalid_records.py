"""Invalid records of a source: counted by reason, described in one line, and limited in number.

A record is a number from 1 or a name, with the reason why it cannot be used. The text of a reason after a colon is
about one record.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from graft.errors import GraftError
from graft.io.csv_files import csv_text


def invalid_records_csv(records: "Sequence[tuple[int | str, str]]") -> str:
    """Return the invalid records as CSV text: the number or name of each record, and the reason."""
    return csv_text(("record", "why"), records)


def count_by_reason(records: "Sequence[tuple[int | str, str]]") -> dict[str, int]:
    """Return the number of invalid records by reason, the most frequent first."""
    return dict(Counter(why.partition(":")[0] for _, why in records).most_common())


def describe_invalid(records: "Sequence[tuple[int | str, str]]") -> str:
    """Return the number of invalid records by reason, each with its first record; "" if there are none."""
    first: dict[str, tuple[int | str, str]] = {}
    for number, why in records:
        reason, _, detail = why.partition(":")
        first.setdefault(reason, (number, detail.strip()))
    parts = []
    for reason, count in count_by_reason(records).items():
        number, detail = first[reason]
        place = number if isinstance(number, str) else f"record {number}"
        parts.append(f"{count} left out: {reason} ({place}{': ' if detail else ''}{detail})")
    return "; ".join(parts)


def check_invalid(
    usable: int, invalid: "Sequence[tuple[int | str, str]]", largest: float, path: "str | Path", setting: str
) -> None:
    """Raise GraftError if too large a share of the records of a file is invalid.

    Args:
        usable: Number of usable records.
        invalid: (record, reason) of each invalid record.
        largest: Largest share of invalid records.
        path: The file, for the message.
        setting: Setting of ``largest``, for the message.
    """
    if invalid and (not usable or len(invalid) > largest * (usable + len(invalid))):
        raise GraftError(
            f"{len(invalid)} of {usable + len(invalid)} records of {path} cannot be used "
            f"({describe_invalid(invalid)}); the largest share is {largest:.0%}: fix the file, or raise {setting}"
        )
