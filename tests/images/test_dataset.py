"""Pictures from every source, and what happens to those that cannot be used."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from domains.images.data import ImageData
from domains.images.dataset.read import read_pictures
from graft.errors import GraftError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 6, 4), np.uint8)  # 6 high, 4 wide
COLOUR = RNG.integers(0, 256, (5, 6, 4, 3), np.uint8)


def folder(path: Path, arrays: np.ndarray, suffix: str = ".png") -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for i, array in enumerate(arrays):
        Image.fromarray(array).save(path / f"{i}{suffix}")
    return path


def idx(array: np.ndarray) -> bytes:
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def test_digits() -> None:
    found = read_pictures("digits")
    assert found.pixels.shape == (1797, 8, 8, 1) and found.grey_levels == 17
    assert sorted(set(np.unique(found.pixels))) == sorted({round(i * 255 / 16) for i in range(17)})
    assert np.bincount(found.labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@pytest.mark.parametrize("arrays", [GREY, COLOUR], ids=["grey", "colour"])
def test_folder(arrays: np.ndarray, tmp_path: Path) -> None:
    found = read_pictures(str(folder(tmp_path, arrays)))
    assert found.labels is None and not found.left_out
    assert np.array_equal(found.pixels, arrays if arrays.ndim == 4 else arrays[..., None])


def test_subfolders_are_classes(tmp_path: Path) -> None:
    for name, part in (("cat", GREY[:2]), ("ant", GREY[2:])):
        folder(tmp_path / name, part)
    found = read_pictures(str(tmp_path))
    assert found.names == ["ant", "cat"] and found.labels.tolist() == [0, 0, 0, 1, 1]
    assert np.array_equal(found.pixels[..., 0], np.concatenate([GREY[2:], GREY[:2]]))


def test_modes_and_sizes_are_brought_together(tmp_path: Path) -> None:
    folder(tmp_path, COLOUR)
    Image.fromarray(GREY[0]).save(tmp_path / "grey.png")
    with pytest.raises(GraftError, match=r"1 pictures in .* are grey and 5 are in colour: give data.channels"):
        read_pictures(str(tmp_path))
    assert read_pictures(str(tmp_path), channels=3).pixels.shape == (6, 6, 4, 3)
    assert read_pictures(str(tmp_path), channels=1).pixels.shape == (6, 6, 4, 1)
    Image.new("RGB", (9, 9), "red").save(tmp_path / "large.png")
    with pytest.raises(GraftError, match=r"2 sizes \(6 of 4x6, 1 of 9x9\): give data.size"):
        read_pictures(str(tmp_path), channels=3)
    found = read_pictures(str(tmp_path), size=4, channels=3)
    assert found.pixels.shape == (7, 4, 4, 3)
    assert (found.pixels[-1] == [255, 0, 0]).all()  # large.png, the last by name


def test_transparency_is_on_white_and_16_bits_are_scaled(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_pictures(str(tmp_path)).pixels == 255).all()
    (tmp_path / "clear.png").unlink()
    Image.fromarray(np.full((2, 2), 0x8000, np.uint16)).save(tmp_path / "deep.png")
    assert (read_pictures(str(tmp_path)).pixels == 128).all()


def test_broken_pictures_are_left_out_and_listed(tmp_path: Path) -> None:
    folder(tmp_path, COLOUR)
    (tmp_path / "none.png").write_bytes(b"no picture")
    half = (tmp_path / "0.png").read_bytes()
    (tmp_path / "half.png").write_bytes(half[: len(half) // 2])
    (tmp_path / "notes.txt").write_text("not looked at")
    with pytest.raises(GraftError, match=r"2 of 7 records .*half.png.* share is 10%.*max_invalid_fraction"):
        read_pictures(str(tmp_path))
    data = ImageData(str(tmp_path), max_invalid_fraction=0.3)
    data.setup()
    assert [name for name, _ in data.left_out] == ["half.png", "none.png"]
    assert len(data.train_set) + len(data.val_set) == 5


@pytest.mark.parametrize("zipped", [False, True])
def test_idx(zipped: bool, tmp_path: Path) -> None:
    pack = gzip.compress if zipped else bytes
    end = ".gz" if zipped else ""
    path = tmp_path / f"train-images-idx3-ubyte{end}"
    path.write_bytes(pack(idx(GREY)))
    assert read_pictures(str(path)).labels is None
    (tmp_path / f"train-labels-idx1-ubyte{end}").write_bytes(pack(idx(np.arange(5))))
    found = read_pictures(str(path))
    assert np.array_equal(found.pixels[..., 0], GREY) and found.labels.tolist() == [0, 1, 2, 3, 4]
    path.write_bytes(pack(idx(GREY)[:-1]))
    with pytest.raises(GraftError, match="truncated"):
        read_pictures(str(path))


@pytest.mark.parametrize(
    "array",
    [COLOUR, COLOUR.transpose(0, 3, 1, 2), COLOUR / 255.0, COLOUR / 127.5 - 1, COLOUR.astype(int)],
    ids=["uint8", "channels first", "0..1", "-1..1", "int64"],
)
def test_npz(array: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=array, labels=np.arange(5))
    found = read_pictures(str(tmp_path / "a.npz"))
    assert np.array_equal(found.pixels, COLOUR) and found.labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"pictures": GREY}, "no array 'images'; there are: pictures"),
        ({"images": RNG.integers(0, 9, (5, 6, 4, 2), np.uint8)}, "2 channels"),
        ({"images": GREY[0]}, r"shape \(6, 4\)"),
        ({"images": GREY * 1.0}, r"from \d+ to 2\d+: pixels lie in"),
        ({"images": GREY.astype(int) + 300}, "beyond 0 to 255"),
        ({"images": GREY, "labels": np.arange(4)}, "a label of 0 or more for each"),
        ({"images": GREY, "labels": np.array(["a", "b", "c", "d", "e"])}, "has labels of type <U1: give a class"),
        ({"images": GREY / np.where(GREY > 250, 0, np.nan)}, "pixels lie in"),
        ({"images": np.array([{}, {}])}, "without pickle"),
    ],
    ids=["name", "channels", "shape", "range", "integers", "labels", "words", "nan", "pickle"],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_arrays_that_are_no_pictures(arrays: dict, words: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(GraftError, match=words):
        read_pictures(str(tmp_path / "a.npz"))


@pytest.mark.parametrize("name", ["none", "a.npz", "a.txt", "empty"])
def test_sources_that_are_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "a.npz").write_text("a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(GraftError):
        read_pictures(str(tmp_path / name))


def test_size_and_channels_of_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=COLOUR)
    assert read_pictures(str(tmp_path / "a.npz"), size=8, channels=1).pixels.shape == (5, 8, 8, 1)
    flat = np.full((2, 3, 3), 7, np.uint8)
    np.savez(tmp_path / "b.npz", images=flat)
    found = read_pictures(str(tmp_path / "b.npz"), size=6, channels=3).pixels
    assert found.shape == (2, 6, 6, 3) and (found == 7).all()


def test_noise_fills_one_step_between_grey_levels() -> None:
    data = ImageData(dequantize_width=1, limit=64)
    data.setup()
    torch.manual_seed(0)
    clean = data.train_set.pixels / 127.5 - 1
    apart = data.train_set.__getitems__(list(range(len(clean))))["pixels"] - clean
    assert apart.abs().max() <= 1 / 16 and abs(float(apart.std()) - 1 / 8 / 12**0.5) < 1e-3
    assert ImageData(limit=8).train_set[0]["pixels"].shape == (1, 8, 8)


@pytest.mark.parametrize(
    "setting, value",
    [
        *(("limit", value) for value in (1, 0, -5)),
        *(("val_fraction", value) for value in (-0.1, 1.0, float("nan"))),
        ("batch_size", 0),
        ("size", 0),
        ("max_invalid_fraction", float("nan")),
    ],
)
def test_settings_out_of_their_ranges(setting: str, value: float) -> None:
    kwargs: Any = {setting: value}
    with pytest.raises(GraftError, match=f"data.{setting} is"):
        ImageData(**kwargs)


def test_one_picture_is_too_few(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 8, 8), np.uint8))
    with pytest.raises(GraftError, match="too few"):
        ImageData(str(tmp_path / "a.npz")).setup()


def test_mirrored_and_split_by_seed() -> None:
    plain, mirrored = ImageData(limit=40, val_fraction=0.25), ImageData(limit=40, val_fraction=0.25, flip=True)
    assert (len(plain.train_set), len(plain.val_set)) == (30, 10)
    assert torch.equal(mirrored.train_set.pixels[30:], plain.train_set.pixels.flip(-1))
    assert torch.equal(mirrored.val_set.pixels, plain.val_set.pixels)
    assert not torch.equal(ImageData(limit=40, val_fraction=0.25, seed=1).train_set.pixels, plain.train_set.pixels)


def test_a_limit_of_pictures_stored_class_by_class(tmp_path: Path) -> None:
    """A random part is taken, and the same one again: of 40 of 200, 10 +- 2.5 are of each of four classes."""
    labels = np.arange(200) // 50
    np.savez(
        tmp_path / "a.npz",
        images=np.repeat(labels[:, None, None], 64, 1).reshape(-1, 8, 8).astype(np.uint8),
        labels=labels,
    )
    parts = [ImageData(str(tmp_path / "a.npz"), limit=40, val_fraction=0.5, seed=seed) for seed in (0, 0, 1)]
    for data in parts:
        for part in (data.train_set, data.val_set):
            assert len(part) == 20 and part.labels is not None and len(part.labels.unique()) == 4
    training = [data.train_set.labels for data in parts]
    assert torch.equal(training[0], training[1]) and not torch.equal(training[0], training[2])
