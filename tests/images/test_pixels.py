"""Between tensors, pictures, keys and files."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from domains.images import files, scored_files
from domains.images.dataset.arrays import read_npz
from domains.images.grid import render_grid
from domains.images.keys import PerceptualHash, PixelHash
from domains.images.pixels import pil_to_tensor, to_float, to_pil, to_uint8
from graft.errors import GraftError

COLOUR = torch.randint(0, 256, (6, 3, 5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
INFOS = [{"label": i, "prompt": f"a, “{i}”"} for i in range(6)]


def test_all_256_values_survive() -> None:
    values = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(values)), values)
    assert to_uint8(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_and_back(channels: int) -> None:
    images = to_pil(COLOUR[:, :channels], INFOS)
    assert images[0].mode == {1: "L", 3: "RGB"}[channels] and images[0].size == (4, 5)
    assert torch.equal(pil_to_tensor(images), COLOUR[:, :channels])
    assert [image.info for image in images] == INFOS


def test_what_is_not_finite_says_so() -> None:
    states = to_float(COLOUR)
    states[2, 0, 0, 0], states[3, 1] = torch.nan, torch.inf
    assert [image.info.get("failed") for image in to_pil(states)] == [
        *[None] * 2,
        *["pixels are not finite"] * 2,
        *[None] * 2,
    ]


def test_two_channels_are_no_picture() -> None:
    with pytest.raises(GraftError, match="not 2"):
        to_pil(COLOUR[:, :2])
    with pytest.raises(GraftError, match="2 modes and sizes"):
        pil_to_tensor([Image.new("L", (2, 2)), Image.new("L", (3, 2))])


def test_keys() -> None:
    images = to_pil(COLOUR)
    content, alike = PixelHash(), PerceptualHash(2, 2)
    assert len({content(image) for image in images}) == 6
    assert content(images[0]) == content(images[0].copy())
    brighter = Image.fromarray(np.full((8, 8), 10, np.uint8)), Image.fromarray(np.full((8, 8), 11, np.uint8))
    assert content(brighter[0]) != content(brighter[1]) and alike(brighter[0]) == alike(brighter[1])
    half = np.zeros((8, 8), np.uint8)
    half[:, 4:] = 255
    assert alike(Image.fromarray(half)) == "00010001"  # rows of left, right
    with pytest.raises(GraftError):
        PerceptualHash(0)


@pytest.mark.parametrize("name", ["folder", "a.npz"])
@pytest.mark.parametrize("channels", [1, 3])
def test_files(name: str, channels: int, tmp_path: Path) -> None:
    images = to_pil(COLOUR[:, :channels], INFOS)
    files.write_images(images, tmp_path / name, [0.5 * i for i in range(6)])
    if name == "folder":
        again = scored_files.read_scored(tmp_path / name / "index.csv", "reward", None, None).images
        assert torch.equal(pil_to_tensor(again), COLOUR[:, :channels])
        assert [image.info["label"] for image in again] == list(range(6))
        assert [image.info["prompt"] for image in again] == [info["prompt"] for info in INFOS]
        with open(tmp_path / name / "index.csv", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
        assert [float(row["reward"]) for row in rows] == [0.5 * i for i in range(6)]
    else:
        found = read_npz(tmp_path / name)
        assert torch.equal(torch.from_numpy(found.pixels).movedim(-1, 1), COLOUR[:, :channels])
        assert found.labels is not None and found.labels.tolist() == list(range(6))
        assert np.load(tmp_path / name)["reward"].tolist() == [0.5 * i for i in range(6)]


def test_failed_rewards_are_left_out(tmp_path: Path) -> None:
    files.write_images(to_pil(COLOUR[:2], INFOS[:2]), tmp_path / "some", [math.nan, 1.5])
    with open(tmp_path / "some" / "index.csv", encoding="utf-8") as table:
        assert [row["reward"] for row in csv.DictReader(table)] == ["", "1.5"]
    with Image.open(tmp_path / "some" / "00000.png") as picture:
        assert "NaN" not in picture.text["graft"]


def test_one_picture_of_all(tmp_path: Path) -> None:
    files.write_images(to_pil(COLOUR), tmp_path / "all.png", [1.0] * 6)
    with Image.open(tmp_path / "all.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > sheet.height
    assert render_grid([Image.new("RGB", (500, 20))])  # scaled down


def test_files_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GraftError, match=r"give a \.npz, a \.png or a folder"):
        files.write_images(to_pil(COLOUR), tmp_path / "a.jpg")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(GraftError, match="something else"):
        files.write_images(to_pil(COLOUR), tmp_path)
    with pytest.raises(GraftError, match="no file"):
        scored_files.read_scored(tmp_path / "index.csv", "reward", None, None)


def test_scored_files(tmp_path: Path) -> None:
    files.write_images(to_pil(COLOUR, INFOS), tmp_path / "set", [0.5 * i for i in range(6)])
    table = tmp_path / "set" / "index.csv"
    found = scored_files.read_scored(table, "reward", 6, (3, 5, 4))
    assert found.values == [0.5 * i for i in range(6)] and found.labels.tolist() == list(range(6))
    assert torch.equal(to_uint8(found.pixels), COLOUR) and not found.left_out
    text = table.read_text(encoding="utf-8").splitlines()
    text[1] = text[1].replace("00000.png", "gone.png")
    text[2] = text[2].replace("0.5", "")
    text[3] = text[3].replace(",2,", ",7,")
    (tmp_path / "set" / "00003.png").write_bytes(b"broken")
    Image.new("RGB", (9, 9)).save(tmp_path / "set" / "00004.png")
    table.write_text("\n".join(text), encoding="utf-8")
    found = scored_files.read_scored(table, "reward", 6, (3, 5, 4))
    assert found.values == [2.5] and [number for number, _ in found.left_out] == [1, 2, 3, 4, 5]
    message = " ".join(why for _, why in found.left_out)
    assert all(word in message for word in ("gone.png", "no score", "'7' is none of 0 to 5", "9x9 pixels, where 4x5"))
    with pytest.raises(GraftError, match="no column 'rating'; there are: file, label, prompt, reward"):
        scored_files.read_scored(table, "rating", None, None)
