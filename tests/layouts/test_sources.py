"""Readers of layouts: an example of each format, and its invalid records."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from domains.layouts.data import LayoutData
from domains.layouts.layout import PUBLAYNET, RICO, layout, layout_key
from domains.layouts.metrics import LayoutBatch, alignment, overlap
from domains.layouts.readers import LayoutSet, read_layouts
from graft.errors import GraftError

COCO = {
    "images": [{"id": 7, "width": 200, "height": 100}, {"id": 8, "width": 10, "height": 10}],
    "categories": [{"id": 3, "name": "title"}, {"id": 4, "name": "equation"}],
    "annotations": [
        {"image_id": 7, "category_id": 3, "bbox": [20, 10, 100, 20]},
        {"image_id": 7, "category_id": 4, "bbox": [20, 10, 100, 20]},
        {"image_id": 7, "category_id": 3, "bbox": [150, 10, 100, 20]},
        {"image_id": 7, "category_id": 3, "bbox": [20, 10, 0, 20]},
        {"image_id": 7, "category_id": 3, "bbox": [0, 0, 200, 50], "iscrowd": 1},
    ],
}
SCREEN = {
    "bounds": [0, 0, 1440, 2560],
    "children": [
        {
            "bounds": [0, 0, 1440, 1280],
            "componentLabel": "Card",
            "children": [{"bounds": [144, 256, 720, 512], "componentLabel": "Text"}],
        },
        {"bounds": [0, 0, 10, 10]},
    ],
}


def written(path: Path, content: object) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def elements(pages: LayoutSet, row: int = 0) -> list:
    item = pages.layouts()[row]
    return sorted(
        (name, [round(v, 5) for v in box]) for name, box in zip(item.classes, item.boxes.tolist(), strict=True)
    )


def test_coco_and_what_is_left_out(tmp_path: Path) -> None:
    pages = read_layouts(written(tmp_path / "coco.json", COCO), PUBLAYNET, 20)
    assert elements(pages) == [("title", [0.1, 0.1, 0.6, 0.3])]
    assert pages.left_out == {
        "elements of unknown class 'equation'": 1,
        "elements with a box outside the page": 1,
        "elements with a box of no area": 1,
        "annotations of crowds": 1,
        "empty layouts": 1,
    }
    assert ("annotation number 5 of image 7", "annotations of crowds") in pages.named


def test_rico_file_and_folder(tmp_path: Path) -> None:
    for name in ("1.json", "2.json"):
        written(tmp_path / name, SCREEN)
    wanted = [("Card", [0, 0, 1, 0.5]), ("Text", [0.1, 0.1, 0.5, 0.2])]
    assert elements(read_layouts(str(tmp_path), RICO, 25), 1) == wanted
    assert elements(read_layouts(str(tmp_path / "1.json"), RICO, 25)) == wanted
    assert len(read_layouts(str(tmp_path), RICO, 25)) == 2


def test_tokens(tmp_path: Path) -> None:
    text = "text 0 0 127 64 | title 10 20 30 40\ntext 1 1 1 9\n" + " | ".join(["text 1 2 3 4"] * 4)
    pages = read_layouts(written(tmp_path / "a.txt", text), PUBLAYNET, 3)
    assert elements(pages) == [
        ("text", [0, 0, 1, round(64 / 127, 5)]),
        ("title", [round(v / 127, 5) for v in (10, 20, 30, 40)]),
    ]
    assert pages.left_out == {
        "elements with a box of no area": 1,
        "empty layouts": 1,
        "layouts of more than 3 elements": 1,
    }


BOXES = np.array([[[0.5, 0.5, 1.0, 0.5], [0.25, 0.25, 0.5, 0.1]], [[0.5, 0.1, 0.2, 0.2], [0, 0, 0, 0]]])
LABELS = np.array([[1, 4], [0, 0]])
WANTED = [[("figure", [0, 0.2, 0.5, 0.3]), ("title", [0, 0.25, 1, 0.75])], [("text", [0.4, 0, 0.6, 0.2])]]


def saved(kind: str, path: Path) -> str:
    boxes, labels = torch.tensor(BOXES), torch.tensor(LABELS)
    if kind == "npz":
        np.savez(path.with_suffix(".npz"), bbox=BOXES, type=LABELS, length=np.array([2, 1]))
        return str(path.with_suffix(".npz"))
    if kind == "padded":
        content: object = {"boxes": boxes, "labels": labels, "mask": torch.tensor([[1, 1], [1, 0]])}
    elif kind == "collated":
        rows = torch.tensor([0, 2, 3])
        data = {"x": boxes.flatten(0, 1)[:3], "y": labels.flatten()[:3], "attr": [{"name": "a"}, {"name": "b"}]}
        content = (data, {"x": rows, "y": rows})
    else:
        corner = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., 2:]], -1)
        content = [{"labels": labels[i, :n] + 1, "bboxes": corner[i, :n], "name": "x"} for i, n in enumerate((2, 1))]
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("kind", ["npz", "padded", "collated", "records"])
def test_arrays(kind: str, tmp_path: Path) -> None:
    pages = read_layouts(saved(kind, tmp_path / "a.pt"), PUBLAYNET, 20)
    assert [elements(pages, row) for row in (0, 1)] == WANTED


class Code:
    """Runs when it is unpickled."""

    def __reduce__(self) -> tuple:
        return print, ("unpickled",)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "{", "not a JSON file"),
        ("a.json", {"layouts": []}, "another schema"),
        ("a.json", {**COCO, "annotations": [{"image_id": 7}]}, "1 of the 1 elements .* annotation number 1 of image 7"),
        ("a.json", {**COCO, "annotations": {"1": {}}}, "its annotations are not a list"),
        ("a.json", {**COCO, "categories": [{"id": 3, "name": n} for n in "ab"]}, "category 3 is both 'a' and 'b'"),
        ("a.json", "[" * 2000, "not a JSON file"),
        ("a.json", {**COCO, "annotations": []}, "no layout that can be used"),
        ("a.json", {"bounds": [0, 0], "children": []}, "no semantic annotation"),
        ("a.txt", "text 1 2 3", "line 1"),
        ("a.txt", "text 1 2 3 x", "line 1"),
        ("a.csv", "x", ".csv"),
    ],
)
def test_bad_file_is_one_sentence(name: str, content: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(GraftError, match=words):
        read_layouts(written(tmp_path / name, content), PUBLAYNET, 20)


def test_code_in_a_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    torch.save({"boxes": Code()}, tmp_path / "a.pt")
    with pytest.raises(GraftError, match="without running code"):
        read_layouts(str(tmp_path / "a.pt"), PUBLAYNET, 20)
    assert capsys.readouterr().out == ""
    torch.save({"x": torch.zeros(2)}, tmp_path / "b.pt")
    with pytest.raises(GraftError, match="known form"):
        read_layouts(str(tmp_path / "b.pt"), PUBLAYNET, 20)


def test_empty_folder_and_absent_file(tmp_path: Path) -> None:
    with pytest.raises(GraftError, match=r"no \.json files"):
        read_layouts(str(tmp_path), RICO, 25)
    with pytest.raises(GraftError, match=r"absent\.json"):
        read_layouts("absent.json", PUBLAYNET, 20)


def test_pages_that_are_made_are_clean_and_the_same() -> None:
    pages, again = (read_layouts("generated", PUBLAYNET, 20, 300) for _ in range(2))
    items = pages.layouts()
    assert [layout_key(item) for item in items] == [layout_key(item) for item in again.layouts()]
    assert len({layout_key(item) for item in items}) == len(items)
    assert float(overlap(LayoutBatch.of(items)).max()) < 1e-12
    assert float(alignment(LayoutBatch.of(items)).mean()) < 1e-4
    assert set(np.unique(np.concatenate([item.labels for item in items]))) == set(range(5))
    assert not any("outside" in why or "area" in why for why in pages.left_out)


def test_key_is_of_the_set() -> None:
    a = layout(["text", "title"], [[0.1, 0.2, 0.5, 0.3], [0, 0, 1, 0.1]])
    b = layout(["title", "text"], [[0.001, 0, 1, 0.1], [0.1, 0.2, 0.5, 0.3]])
    other = layout(["title", "text"], [[0.01, 0, 1, 0.1], [0.1, 0.2, 0.5, 0.3]])
    assert layout_key(a) == layout_key(b) != layout_key(other)


def test_a_limit_of_layouts_stored_class_by_class(tmp_path: Path) -> None:
    """A random part is taken: titles come after texts in the file, and there are both in either part."""
    lines = [f"{kind} {10 + i % 40} 20 60 30" for kind in ("text", "title") for i in range(60)]
    data = LayoutData(written(tmp_path / "a.txt", "\n".join(lines)), limit=40, val_fraction=0.5)
    for part in (data.train_set, data.val_set):
        assert len(part) == 20 and len(set(part.labels[:, 0].tolist())) == 2
