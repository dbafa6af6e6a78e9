"""Text in pictures: the real recognition on rendered text, and the comparison of texts."""

import math
import pickle

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from domains.images.rewards import RenderedText
from domains.images.rewards.rendered_text import in_reading_order, normalised, similarity
from graft import GraftError


def sign(*lines: str, prompt: "str | None" = None, size: int = 256, dark: bool = False) -> Image.Image:
    image = Image.new("RGB", (size, size), "navy" if dark else "white")
    font = ImageFont.load_default(size // 9)
    for i, line in enumerate(lines):
        place = size // 10, size // 5 + i * size // 4
        ImageDraw.Draw(image).text(place, line, fill="yellow" if dark else "black", font=font)
    if prompt is not None:
        image.info["prompt"] = prompt
    return image


def test_rendered_text_is_read() -> None:
    pytest.importorskip("rapidocr")
    reward = RenderedText()
    pictures = [
        sign("OPEN 24", prompt='a sign that says "open 24"'),
        sign("HELLO", "WORLD", prompt="a wall, “Hello world” painted on it", dark=True),
        sign("STOP", prompt="a sign with the word 'SHOP'", size=64),
        sign(prompt='a sign that says "open"'),
        sign("OPEN", prompt="the dog's bone and the cat's tail"),
        sign("OPEN"),
    ]
    scores = reward(pictures)
    assert scores.values[:2] == [1, 1] and scores.values[2] == pytest.approx(0.75) and scores.values[3] == 0
    assert all(math.isnan(value) for value in scores.values[4:]) and set(scores.failures) == {4, 5}
    assert "no text in quotation marks" in scores.failures[4]
    copy = pickle.loads(pickle.dumps(RenderedText("stop", match_case=True)))
    assert copy(pictures[2:3]).values == [0] and copy.text == "stop"


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ('a "red" and a "blue" sign', "red blue"),
        ("ein Schild „Hallo“, daneben „Welt”", "Hallo Welt"),
        ("en skylt ”Hej”", "Hej"),
        ("un mur « Bonjour »", " Bonjour "),
        ("ein Schild »Hallo«", "Hallo"),
        ("看板「開店」と『本』", "開店 本"),
        ("a sign 'don't panic'", "don't panic"),
        ("the dog’s sign ‘don’t panic’", "don’t panic"),
        ("the dogs' bone and the cats' tail", None),
        ("the dog’s bone and the cat’s tail", None),
        ('5" of snow', None),
    ],
)
def test_quotation_marks(prompt: str, text: "str | None") -> None:
    image = Image.new("RGB", (8, 8))
    image.info["prompt"] = prompt
    if text is not None:
        assert RenderedText()._wanted(image) == text
    else:
        with pytest.raises(ValueError, match="no text in quotation marks"):
            RenderedText()._wanted(image)


def test_empty_text_is_refused() -> None:
    with pytest.raises(GraftError, match="text is empty"):
        RenderedText(" ")


@pytest.mark.parametrize(
    ("a", "b", "value"),
    [("", "", 1), ("a", "", 0), ("kitten", "sitting", 1 - 3 / 7), ("stop", "stop", 1), ("ab", "ba", 0)],
)
def test_similarity(a: str, b: str, value: float) -> None:
    assert similarity(a, b) == similarity(b, a) == pytest.approx(value)


def test_texts_have_one_form() -> None:
    assert normalised("  Caf\u0065\u0301\n ＯＰＥＮ ") == normalised("CAFÉ open")
    assert normalised("Open", match_case=True) == "Open"


def test_lines_are_in_reading_order() -> None:
    def box(left: float, top: float) -> np.ndarray:
        return np.array([[left, top], [left + 10, top], [left + 10, top + 8], [left, top + 8]])

    lines = [(box(0, 20), "c"), (box(20, 1), "b"), (box(0, 0), "a"), (box(30, 22), "d")]
    assert [text for _, text in in_reading_order(lines)] == ["a", "b", "c", "d"]
