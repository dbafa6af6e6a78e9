"""Files of a folder that are pictures, and subfolders that are classes."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from domains.images.data import ImageData
from domains.images.dataset.read import describe_pictures, read_pictures
from graft.errors import GraftError


def picture(path: Path, value: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path, {".jfif": "JPEG", ".avif": "AVIF"}.get(path.suffix.lower(), "PNG"))
    return path


def values(source: Path) -> list[int]:
    return [int(pixels[0, 0, 0]) for pixels in read_pictures(str(source)).pixels]


def test_hidden_and_left_behind(tmp_path: Path) -> None:
    """Files of operating systems and notebooks are neither classes nor pictures."""
    picture(tmp_path / "cats" / "0.png", 1), picture(tmp_path / "dogs" / "0.png", 2)
    for name in (".ipynb_checkpoints", "__MACOSX", ".hidden", "@eaDir", "cats/.ipynb_checkpoints", "dogs/__MACOSX"):
        picture(tmp_path / name / "0.png", 99)
    for name in ("cats/._0.png", "._0.png", ".DS_Store"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "cats" / "Thumbs.db").write_bytes(b"x")
    found = read_pictures(str(tmp_path))
    assert found.names == ["cats", "dogs"] and found.labels is not None and found.labels.tolist() == [0, 1]
    assert found.pixels[:, 0, 0, 0].tolist() == [1, 2] and not found.left_out
    assert found.notes == ["not looked at: 1 .db"]


def test_a_hidden_folder_that_is_named(tmp_path: Path) -> None:
    picture(tmp_path / ".data" / "0.png", 3)
    assert values(tmp_path / ".data") == [3]


def test_suffixes(tmp_path: Path) -> None:
    names = ["0.PNG", "1.Png", "2.jfif", "3.JFIF", "5.heic", "6.txt"] + ["4.avif"] * features.check("avif")
    for i, name in enumerate(names):
        picture(tmp_path / name, 40 * i) if i not in (4, 5) else (tmp_path / name).write_bytes(b"x")
    found = read_pictures(str(tmp_path))
    assert len(found.pixels) == len(names) - 2 and not found.left_out
    assert found.notes == ["not looked at: 1 .heic, 1 .txt"]
    for each in tmp_path.iterdir():
        if each.suffix != ".heic":
            each.unlink()
    with pytest.raises(GraftError, match=r"there is no picture in .*; it has 1 \.heic"):
        read_pictures(str(tmp_path))


def test_links(tmp_path: Path) -> None:
    """Linked classes and pictures are read; loops end, and a link that leads nowhere is named."""
    root = tmp_path / "set"
    picture(tmp_path / "elsewhere" / "deep" / "0.png", 1), picture(root / "dogs" / "0.png", 2)
    (root / "cats").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "also cats").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (root / "dogs" / "1.png").symlink_to(root / "dogs" / "0.png")
    (root / "dogs" / "up").symlink_to(root, target_is_directory=True)
    (tmp_path / "elsewhere" / "self").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "elsewhere" / "other").symlink_to(root / "dogs", target_is_directory=True)
    found = read_pictures(str(root), max_invalid_fraction=0.5)
    assert found.names == ["also cats", "cats", "dogs"] and found.labels is not None
    assert np.bincount(found.labels).tolist() == [3, 3, 2]  # each class has its own, and dogs through "other"
    (root / "dogs" / "2.png").symlink_to(root / "nowhere.png")
    (root / "dogs" / "3.png").symlink_to(root / "dogs" / "3.png")
    found = read_pictures(str(root), max_invalid_fraction=0.5)
    assert {name: why for name, why in found.left_out} == {
        "also cats/other/2.png": "the link leads nowhere",
        "also cats/other/3.png": "the link leads nowhere",
        "cats/other/2.png": "the link leads nowhere",
        "cats/other/3.png": "the link leads nowhere",
        "dogs/2.png": "the link leads nowhere",
        "dogs/3.png": "the link leads nowhere",
    }


def test_many_links_to_each_other(tmp_path: Path) -> None:
    """Folders that link to all others have as many paths as a number has permutations."""
    for i in range(9):
        picture(tmp_path / "set" / "a" / str(i) / "0.png", i)
    for i in range(9):
        for j in range(9):
            (tmp_path / "set" / "a" / str(i) / f"to{j}").symlink_to(tmp_path / "set" / "a" / str(j))
    assert sorted(values(tmp_path / "set")) == list(range(9))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_what_is_no_file(tmp_path: Path) -> None:
    """A pipe would be waited for."""
    for i in range(10):
        picture(tmp_path / f"{i}.png", i)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    found = read_pictures(str(tmp_path))
    assert found.left_out == [("pipe.png", "it is not a file")] and len(found.pixels) == 10


@pytest.mark.parametrize(
    "parts", [("train", "val"), ("Training", "validation", "TEST"), ("train2017", "val2017"), ("train_set", "dev")]
)
def test_parts_of_a_data_set_are_no_classes(parts: tuple[str, ...], tmp_path: Path) -> None:
    for i, part in enumerate(parts):
        for j, name in enumerate(("cats", "dogs")):
            picture(tmp_path / part / name / "0.png", 10 * i + j)
    found = read_pictures(str(tmp_path))
    assert found.names == ["cats", "dogs"] and found.labels is not None and found.labels.tolist() == [0, 1]
    assert found.pixels[:, 0, 0, 0].tolist() == [0, 1]
    line = describe_pictures(found, "here")
    assert line.startswith("2 pictures from here; 2 classes (cats, dogs); its folders are parts of a data set")
    assert f"{parts[0]} is read, and {', '.join(sorted(parts[1:]))} not" in line
    with pytest.raises(GraftError, match="parts of a data set and no classes: give one of them") as error:
        shutil.rmtree(tmp_path / parts[0])
        picture(tmp_path / "test" / "0.png"), picture(tmp_path / "val" / "0.png")
        read_pictures(str(tmp_path))
    assert "\n" not in str(error.value)


def test_parts_without_classes(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "0.png", 1), picture(tmp_path / "test" / "0.png", 2)
    found = read_pictures(str(tmp_path))
    assert found.labels is None and found.names == [] and found.pixels[:, 0, 0, 0].tolist() == [1]


@pytest.mark.parametrize("names", [("train", "bus", "car"), ("testing ground", "values"), ("trains", "vals")])
def test_classes_with_such_names(names: tuple[str, ...], tmp_path: Path) -> None:
    for i, name in enumerate(sorted(names)):
        picture(tmp_path / name / "0.png", i)
    found = read_pictures(str(tmp_path))
    assert found.names == sorted(names) and found.pixels[:, 0, 0, 0].tolist() == list(range(len(names)))


def test_pictures_outside_of_the_classes(tmp_path: Path) -> None:
    picture(tmp_path / "cats" / "0.png", 1), picture(tmp_path / "dogs" / "0.png", 2), picture(tmp_path / "0.png", 3)
    found = read_pictures(str(tmp_path))
    assert found.labels is None and found.notes == [
        "1 of them lie next to the subfolders, which are therefore no classes"
    ]


def test_names_of_classes_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for i in range(30):
        picture(tmp_path / f"class {i:02d}" / "0.png", i)
    ImageData(str(tmp_path)).setup()
    line = capsys.readouterr().out
    assert f"30 pictures from {tmp_path}; 30 classes (class 00, class 01, " in line and "class 19, ...)" in line


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """Linux allows any bytes in a name; messages and files show it as text."""
    picture(tmp_path / "a" / "0.png", 1)
    try:
        (tmp_path / os.fsdecode(b"\xff")).mkdir()
    except OSError:
        pytest.skip("this file system has text for names")
    picture(tmp_path / os.fsdecode(b"\xff") / "0.png", 2)
    (tmp_path / "a" / os.fsdecode(b"\xfe.png")).write_bytes(b"x")
    found = read_pictures(str(tmp_path), max_invalid_fraction=0.5)
    assert found.names == ["a", "?"] and found.left_out[0][0] == "a/?.png"
    describe_pictures(found, "here").encode()
