"""The scales of ratings: keep or drop, and 1 to 5."""

from dataclasses import dataclass

from graft.errors import GraftError


@dataclass(frozen=True)
class Scale:
    """The values that a person chooses from.

    Attributes:
        name: Name of the scale.
        choices: Name of each value on the page.
    """

    name: str
    choices: dict[int, str]


SCALES = {
    "keep": Scale("keep", {0: "drop", 1: "keep"}),
    "stars": Scale("stars", {value: str(value) for value in range(1, 6)}),
}
"""Scales by name."""


def find_scale(name: str, setting: str) -> Scale:
    """Return the scale of a name.

    Args:
        name: Name of the scale.
        setting: Setting that holds the name, for the message.

    Raises:
        GraftError: There is no such scale.
    """
    if name not in SCALES:
        raise GraftError(f"{setting} is {name!r}; it must be one of {', '.join(SCALES)}")
    return SCALES[name]
