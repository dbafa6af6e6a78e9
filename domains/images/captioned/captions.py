"""Captions of an object, its colour and its background, and which of them are held out."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Generator, randint

from graft.core.seeding import derive_seed

OBJECTS: dict[str, str] = {
    "apple": "red apple",
    "bell": "bell",
    "bird": "bird",
    "butterfly": "butterfly",
    "car": "automobile",
    "crown": "crown",
    "elephant": "elephant",
    "fish": "fish",
    "frog": "frog face",
    "hat": "top hat",
    "heart": "heavy black heart",
    "key": "key",
    "moon": "crescent moon",
    "mushroom": "mushroom",
    "rocket": "rocket",
    "shirt": "t-shirt",
    "star": "white medium star",
    "strawberry": "strawberry",
    "turtle": "turtle",
    "umbrella": "umbrella",
}
"""Word of a caption for each object, and the name of its emoji."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 215, 40),
    "green": (50, 170, 60),
    "blue": (45, 110, 225),
    "purple": (135, 60, 190),
    "pink": (250, 135, 185),
    "grey": (140, 140, 145),
}
"""Colours of objects."""

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (250, 250, 250),
    "black": (15, 15, 15),
    **{name: COLOURS[name] for name in ("yellow", "green", "blue", "pink")},
}
"""Colours of backgrounds."""

TEMPLATES = (
    "{a} {colour} {object} on a {background} background",
    "{a} {colour} {object} on {background}",
    "{a} {colour} {object}, {background} background",
    "{a} {colour} {object}",
)
"""Forms of a caption; the last leaves the background open."""


@dataclass(frozen=True)
class Caption:
    """An object, its colour and its background, "" where the words leave one open."""

    object: str
    colour: str
    background: str

    def text(self, template: str = TEMPLATES[0]) -> str:
        """Return the caption in the words of a template."""
        article = "an" if self.colour[0] in "aeiou" else "a"
        return template.format(a=article, colour=self.colour, object=self.object, background=self.background)


def parse(text: str) -> Caption:
    """Return the caption that a text of any template was made from.

    Raises:
        ValueError: The text names no object.
    """
    words = re.findall("[a-z]+", text.lower())
    place = next((i for i, word in enumerate(words) if word in OBJECTS), None)
    if place is None:
        raise ValueError(f"the prompt {text!r} names no object of the captions")
    colour = next((word for word in words[:place] if word in COLOURS), "")
    background = next((word for word in words[place + 1 :] if word in BACKGROUNDS), "")
    return Caption(words[place], colour, background)


def every() -> Iterator[Caption]:
    """Yield every caption; an object is never of the colour of its background."""
    for thing in OBJECTS:
        for colour in COLOURS:
            for background in BACKGROUNDS:
                if colour != background:
                    yield Caption(thing, colour, background)


def held_out(caption: Caption, share: float, seed: int = 0) -> bool:
    """Return True for captions whose pair of object and colour is held out.

    A hash of the pair decides, so that the pairs do not depend on the number or the order of the captions.
    """
    return derive_seed(seed, "held out", caption.object, caption.colour) % 10_000 < share * 10_000


def split(share: float, seed: int = 0) -> tuple[list[Caption], list[Caption]]:
    """Return the captions of training, and those whose pair of object and colour is held out."""
    found = list(every())
    apart = [held_out(caption, share, seed) for caption in found]
    return (
        [caption for caption, out in zip(found, apart, strict=True) if not out],
        [caption for caption, out in zip(found, apart, strict=True) if out],
    )


def texts(captions: Sequence[Caption], generator: Generator) -> list[str]:
    """Return each caption in the words of a random template."""
    chosen = randint(len(TEMPLATES), (len(captions),), generator=generator).tolist()
    return [caption.text(TEMPLATES[i]) for caption, i in zip(captions, chosen, strict=True)]
