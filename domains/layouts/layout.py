"""A layout: an unordered set of elements, each a class and a box, on a page."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from graft.errors import GraftError

PUBLAYNET = ("text", "title", "list", "table", "figure")
RICO = (
    "Text",
    "Image",
    "Icon",
    "Text Button",
    "List Item",
    "Input",
    "Background Image",
    "Card",
    "Web View",
    "Radio Button",
    "Drawer",
    "Checkbox",
    "Advertisement",
    "Modal",
    "Pager Indicator",
    "Slider",
    "On/Off Switch",
    "Button Bar",
    "Toolbar",
    "Number Stepper",
    "Multi-Tab",
    "Date Picker",
    "Map View",
    "Video",
    "Bottom Navigation",
)
SETS = {"publaynet": PUBLAYNET, "rico": RICO}
MOST_CLASSES = 10_000
BINS = 127  # last of the 128 places of a coordinate in the public token files


@dataclass(frozen=True, eq=False)
class Layout:
    """The elements of one page, in no order: the object that a reward scores.

    Attributes:
        labels: (n,) int64 class of each element, a position in ``names``.
        boxes: (n, 4) float64 left, top, right, bottom, as fractions of the page's width and height; top is 0.
        names: Names of the classes.
        given: (n,) bool, True for elements that the user fixed completely.
        page: Width and height of the page; only their ratio and unit matter, to files and pictures.
    """

    labels: NDArray[np.int64]
    boxes: NDArray[np.float64]
    names: tuple[str, ...] = PUBLAYNET
    given: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    page: tuple[float, float] = (612.0, 792.0)

    def __post_init__(self) -> None:
        if len(self.given) != len(self.labels):
            object.__setattr__(self, "given", np.zeros(len(self.labels), bool))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def classes(self) -> list[str]:
        """The name of each element's class."""
        return [self.names[label] for label in self.labels]

    @property
    def widths(self) -> NDArray[np.float64]:
        """(n,) fractions of the page's width."""
        return self.boxes[:, 2] - self.boxes[:, 0]

    @property
    def heights(self) -> NDArray[np.float64]:
        """(n,) fractions of the page's height."""
        return self.boxes[:, 3] - self.boxes[:, 1]


def layout(classes: Sequence[str], boxes: ArrayLike, names: tuple[str, ...] = PUBLAYNET) -> Layout:
    """Return a layout from class names and boxes (n, 4).

    Boxes are left, top, right, bottom, as fractions of the page.
    """
    return Layout(
        np.array([names.index(name) for name in classes], np.int64), np.array(boxes, float).reshape(-1, 4), names
    )


def classes_of(given: "Sequence[str | int] | str | int | None") -> tuple[str, ...]:
    """Return the names of classes.

    Args:
        given: None for PubLayNet's; a name of `SETS` for that set's; a number for so many, called ``0``, ``1``, …; else
            the names, in the order of the labels, which may be numbers.

    Raises:
        GraftError: There is no set of that name, no class, or a class twice.
    """
    if isinstance(given, str) and given.lower() in SETS:
        return SETS[given.lower()]
    if given is None:
        return PUBLAYNET
    if isinstance(given, int) or (isinstance(given, str) and given.isdecimal()):
        if isinstance(given, bool) or not 1 <= int(given) <= MOST_CLASSES:
            raise GraftError(f"classes is {given}; it must be from 1 to {MOST_CLASSES}, or a list of names")
        return tuple(str(number) for number in range(int(given)))
    if isinstance(given, str):
        raise GraftError(f"there are no classes {given!r}: give their names, their number, or one of {', '.join(SETS)}")
    if any(isinstance(name, bool) for name in given):
        raise GraftError("classes has yes or no as a name, which YAML reads as true or false: put it in quotes")
    names = tuple(str(name) for name in given)
    if not names or len(set(names)) < len(names):
        raise GraftError(f"classes need at least one name, each only once, not {', '.join(names) or 'none'}")
    return names


def centred(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (..., 4) centre x, centre y, width, height of boxes (..., 4).

    Boxes are left, top, right, bottom.
    """
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], -1)


def cornered(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (..., 4) left, top, right, bottom: the inverse of `centred`."""
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return np.concatenate([middle - half, middle + half], -1)


def layout_key(item: Layout) -> str:
    """Return a key of the set of elements on the grid of 128 places; "" for an empty layout.

    The order of the elements has no effect.
    """
    places = np.rint(item.boxes * BINS).astype(int)
    rows = zip(item.classes, places.tolist(), strict=True)
    return " | ".join(sorted(f"{name} {' '.join(map(str, box))}" for name, box in rows))
