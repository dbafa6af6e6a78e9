"""Rewards with known answers, and what they do with pictures that are none."""

import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from domains.images.dataset import digits
from domains.images.pixels import to_pil
from domains.images.rewards import (
    Brightness,
    ClassProbability,
    Compressibility,
    Incompressibility,
    Symmetry,
    TensorFunction,
)
from graft.errors import GraftError
from graft.reward import FunctionReward, WeightedSum

BROKEN = to_pil(torch.full((1, 1, 4, 4), torch.nan))
STRIPE = np.zeros((4, 4), np.uint8)
STRIPE[:, 0] = 255


def test_ink() -> None:
    grey = [Image.new("L", (3, 5), value) for value in (0, 51, 255)]
    assert Brightness()(grey).values == pytest.approx([0, 0.2, 1], abs=1e-6)
    assert Brightness(dark=True)(grey).values == pytest.approx([1, 0.8, 0], abs=1e-6)


def test_symmetry() -> None:
    both = STRIPE.copy()
    both[:, -1] = 255
    # one column of four: mean 1/4, so that the mirrored one has correlation −(1/4)² · 4 / (3/4) · ... = −1/3
    stripe, even, plain = (Image.fromarray(array) for array in (STRIPE, both, np.full((4, 4), 9, np.uint8)))
    assert Symmetry()([stripe, even, plain]).values == pytest.approx([-1 / 3, 1, 1])
    assert Symmetry("horizontal")([stripe, even, plain]).values == pytest.approx([1, 1, 1])
    with pytest.raises(GraftError):
        Symmetry("diagonal")


def test_jpeg_is_the_size_of_the_file() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    plain = Image.new("RGB", (64, 64))
    out = io.BytesIO()
    noise.save(out, "JPEG", quality=95)
    sizes = Incompressibility()([noise, plain]).values
    assert sizes[0] == len(out.getvalue()) / 1000 and sizes[0] > 4 * sizes[1]
    assert Compressibility()([noise, plain]).values == sizes
    assert Incompressibility.higher_is_better and not Compressibility.higher_is_better
    assert Incompressibility(quality=20)([noise]).values[0] < sizes[0] < Incompressibility(scale=2)([noise]).values[0]
    with pytest.raises(GraftError, match="quality"):
        Compressibility(0)


def test_class_probability() -> None:
    found = digits.read_digits()
    images = to_pil(
        torch.from_numpy(found.pixels[:200]).movedim(-1, 1), [{"label": int(label)} for label in found.labels[:200]]
    )
    own, logs, three = ClassProbability(), ClassProbability(log=True), ClassProbability(3)
    values = own(images).values
    assert min(values) > 0.5  # those that it was trained on
    assert logs(images).values == pytest.approx([math.log(value) for value in values], abs=1e-5)
    threes = three(images).values
    assert all((value > 0.5) == (label == 3) for value, label in zip(threes, found.labels[:200], strict=True))
    assert own.score(images[0]) == pytest.approx(values[0], abs=1e-6)
    nameless = images[0].copy()
    nameless.info.clear()
    scores = own([nameless, images[1]])
    assert list(scores.failures) == [0] and "no label" in scores.failures[0]
    assert scores.values[1] == pytest.approx(values[1], abs=1e-6)
    with pytest.raises(GraftError, match="classes 0 to 9"):
        ClassProbability(10)
    with pytest.raises(GraftError, match="holds no classifier"):
        ClassProbability(weights="domains/molecules/reference/drug_like.safetensors")


@pytest.mark.parametrize(
    "reward", [Brightness(), Symmetry(), Incompressibility(), ClassProbability(0)], ids=lambda r: r.name
)
def test_a_picture_that_is_none_fails_alone(reward) -> None:
    good = Image.fromarray(STRIPE)
    scores = reward([good, *BROKEN, good])
    assert scores.failures == {1: "pixels are not finite"} and math.isnan(scores.values[1])
    assert scores.values[0] == scores.values[2] and math.isfinite(scores.values[0])


def test_pictures_of_several_sizes_are_scored() -> None:
    images = [Image.new("L", (2, 2), 255), Image.new("RGB", (3, 2), "white"), Image.new("L", (2, 2), 0)]
    assert Brightness()(images).values == [1, 1, 0]


def test_any_callable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "def width(image): return image.width\n"
        "def widths(images): return [image.width for image in images]\n"
        "def largest(pixels): return pixels.flatten(1).amax(1)\n"
        "def wrong(pixels): return pixels.mean()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    images = [Image.new("L", (2, 3), 255), Image.new("L", (2, 3), 0), Image.new("L", (5, 3), 51)]
    try:
        assert FunctionReward("mine.width", timeout=None)(images).values == [2, 2, 5]
        assert FunctionReward("mine.widths", timeout=None, batched=True)(images).values == [2, 2, 5]
        assert TensorFunction("mine.largest")(images).values == pytest.approx([1, -1, -0.6])
        assert TensorFunction("mine.largest", "0..1")(images).values == pytest.approx([1, 0, 0.2], abs=1e-6)
        assert TensorFunction("mine.largest", "0..255")(images).values == [255, 0, 51]
        assert "returned the shape ()" in TensorFunction("mine.wrong")(images).failures[0]
        with pytest.raises(GraftError, match="no reward function"):
            TensorFunction("mine.none")
    finally:
        sys.modules.pop("mine", None)


def test_a_callable_in_its_own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures and what they were drawn for reach it."""
    (tmp_path / "labels.py").write_text("def label(image): return image.info['label'] + image.getpixel((0, 0)) / 256")
    monkeypatch.syspath_prepend(tmp_path)
    reward = FunctionReward("labels.label", timeout=60)
    reward.setup()
    try:
        assert reward(to_pil(torch.zeros(2, 1, 3, 4), [{"label": 3}, {"label": 5}])).values == [3.5, 5.5]
    finally:
        reward.teardown()


def test_weighted_sum() -> None:
    grey = [Image.new("L", (8, 8), value) for value in (0, 255)]
    both = WeightedSum([Brightness(), Compressibility()], [2.0, 3.0])
    sizes = Compressibility()(grey).values
    assert both(grey).values == pytest.approx([0 - 3 * sizes[0], 2 - 3 * sizes[1]])
    assert both.name == "2 brightness + -3 JPEG size"
    assert both([*BROKEN]).failures == {0: "JPEG size: pixels are not finite"}
    with pytest.raises(GraftError, match="2 rewards and 1 weights"):
        WeightedSum([Brightness(), Brightness()], [1.0])
