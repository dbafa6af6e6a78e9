"""Cards: a draw as a person sees it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graft.domain import Domain


@dataclass
class Card:
    """A draw to rate.

    Attributes:
        draw: Identity of the draw in the file of ratings.
        condition: The condition in words; consecutive draws of one condition stand on one screen.
        item: The object.
        text: Words below the picture; the object itself where there is no picture.
        picture: PNG of the object, if it was rendered already.
    """

    draw: str
    condition: str
    item: Any
    text: str
    picture: "bytes | None" = None


def cards_of(
    domain: Domain, items: Sequence[Any], draws: Sequence[str], conditions: Sequence[str], rendered: bool = False
) -> list[Card]:
    """Return a card for each object.

    Args:
        domain: Domain of the objects.
        items: Objects.
        draws: Identity of each draw.
        conditions: Condition of each draw in words.
        rendered: Render the pictures now.

    Raises:
        GraftError: A hook of the domain fails.
    """
    cells = list(domain.table_columns(items).values()) if items else []
    drawn = domain.supports("render")
    texts = [" ".join(cell[i] for cell in cells) or ("" if drawn else _short(items[i])) for i in range(len(items))]
    pictures = [domain.render([item]) if rendered else None for item in items]
    return [Card(*each) for each in zip(draws, conditions, items, texts, pictures, strict=True)]


def _short(item: Any, most: int = 400) -> str:
    text = repr(item)
    return text if len(text) <= most else text[: most - 1] + "…"
