"""One odd record is rejected, counted and named; a file with mostly odd records, or in another unit, is refused."""

import copy
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domains.layouts import partial_layout
from domains.layouts.data import LayoutData
from domains.layouts.layout import PUBLAYNET, RICO
from domains.layouts.readers import LayoutSet, read_layouts
from graft.errors import GraftError
from graft.io.invalid_records import describe_invalid

BOXES = [[60, 60, 400, 20], [60, 91, 490, 200], [60, 320, 490, 180], [60, 520, 230, 200]]


def coco(pages: int = 12) -> dict[str, Any]:
    """Pages of 612 x 792 with a title, two texts and a figure each."""
    images = [{"id": i, "width": 612, "height": 792, "file_name": f"{i}.png"} for i in range(1, pages + 1)]
    annotations = [
        {"id": 10 * image["id"] + j, "image_id": image["id"], "category_id": category, "bbox": box, "iscrowd": 0}
        for image in images
        for j, (category, box) in enumerate(zip((2, 1, 5, 1), BOXES, strict=True))
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(PUBLAYNET, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def written(content: Any, name: str = "a.json", bom: bool = False) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    Path(name).write_text(text, encoding="utf-8-sig" if bom else "utf-8")
    return name


def annotation(**given: Any) -> Callable[[dict[str, Any]], None]:
    def put(content: dict[str, Any]) -> None:
        added = {"id": 999, "image_id": 3, "category_id": 1, "bbox": [100, 700, 20, 20], "iscrowd": 0}
        content["annotations"].append({name: value for name, value in {**added, **given}.items() if value != "none"})

    return put


def image(**given: Any) -> Callable[[dict[str, Any]], None]:
    def put(content: dict[str, Any]) -> None:
        added = {"id": 50, "width": 612, "height": 792}
        content["images"].append({name: value for name, value in {**added, **given}.items() if value != "none"})
        content["annotations"].append({"id": 998, "image_id": 50, "category_id": 1, "bbox": [1, 1, 9, 9]})

    return put


ODD: dict[str, tuple[Callable[[dict[str, Any]], None], str, str]] = {
    "empty": (annotation(bbox=[]), "without a box", "annotation 999 of image 3"),
    "null": (annotation(bbox=None), "without a box", "annotation 999 of image 3"),
    "missing": (annotation(bbox="none"), "without a box", "annotation 999 of image 3"),
    "rotated": (annotation(bbox=[100, 700, 20, 20, 30]), "rotated box", "annotation 999 of image 3"),
    "polygon": (annotation(bbox=[1, 1, 9, 1, 9, 9, 1, 9]), "not four numbers", "annotation 999 of image 3"),
    "object": (annotation(bbox={"x": 1}), "box that is not a list", "annotation 999 of image 3"),
    "NaN": (annotation(bbox=[100, float("nan"), 20, 20]), "box not finite", "annotation 999 of image 3"),
    "infinite": (annotation(bbox=[100, 700, float("inf"), 20]), "box not finite", "annotation 999 of image 3"),
    "huge": (annotation(bbox=[100, 700, 10**400, 20]), "box not finite", "annotation 999 of image 3"),
    "words": (annotation(bbox=["a", 1, 2, 3]), "box not finite", "annotation 999 of image 3"),
    "no area": (annotation(bbox=[100, 700, 0, 20]), "of no area", "image 3"),
    "negative": (annotation(bbox=[100, 700, -20, 20]), "of no area", "image 3"),
    "outside": (annotation(bbox=[600, 700, 400, 20]), "outside the page", "image 3"),
    "category": (annotation(category_id=77), "unknown class 'category 77'", "annotation 999 of image 3"),
    "no category": (annotation(category_id="none"), "without a category", "annotation 999 of image 3"),
    "list category": (annotation(category_id=[1]), "without a category", "annotation 999 of image 3"),
    "no such image": (annotation(image_id=77), "an image that is not there", "annotation 999"),
    "no image": (annotation(image_id="none", id="none"), "an image that is not there", "annotation number 49"),
    "crowd": (annotation(iscrowd=1, segmentation={"counts": [1], "size": [1, 1]}), "of crowds", "annotation 999 of"),
    "twice": (annotation(bbox=BOXES[1]), "there twice", "annotation 999 of image 3"),
    "null annotation": (lambda c: c["annotations"].append(None), "no objects", "annotation number 49"),
    "text annotation": (lambda c: c["annotations"].append("x"), "no objects", "annotation number 49"),
    "zero size": (image(width=0, height=0), "images without a width", "image 50"),
    "negative size": (image(width=-5), "images without a width", "image 50"),
    "no size": (image(width="none"), "images without a width", "image 50"),
    "null size": (image(height=None), "images without a width", "image 50"),
    "NaN size": (image(height=float("nan")), "images without a width", "image 50"),
    "image twice": (image(id=3, width=99), "an id that occurs twice", "image 3"),
    "null image": (lambda c: c["images"].append(None), "images without an id", "image number 13"),
}


@pytest.mark.parametrize("name", ODD)
def test_one_odd_record_of_coco(name: str) -> None:
    change, why, where = ODD[name]
    content = coco()
    change(content)
    pages, clean = read_layouts(written(content), PUBLAYNET, 20), read_layouts(written(coco(), "b.json"), PUBLAYNET, 20)
    for part in ("labels", "boxes", "counts"):
        assert np.array_equal(getattr(pages, part), getattr(clean, part)), part
    (reason, count), *more = [(r, n) for r, n in pages.left_out.items() if why in r]
    assert count == 1 and not more, pages.left_out
    assert any(stands.startswith(where) and because.startswith(reason) for stands, because in pages.named)
    assert f"1 left out: {reason} ({where}" in describe_invalid(pages.named)


def test_run_says_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    content = coco()
    annotation(bbox=[])(content)
    data = LayoutData(written(content))
    data.setup()
    assert data.left_out == [("annotation 999 of image 3", "annotations without a box")]
    message = "12 layouts from a.json (1 left out: annotations without a box (annotation 999 of image 3))"
    assert message in capsys.readouterr().out


@pytest.mark.parametrize("name", ["rotated", "empty", "NaN", "category", "no such image", "outside"])
def test_mostly_odd_is_refused(name: str) -> None:
    """Half may be odd: 48 next to 48 good ones are rejected, and the 49th is one too many."""
    for odd, refused in ((48, False), (49, True)):
        content = coco()
        for number in range(odd):
            ODD[name][0](content)
            content["annotations"][-1] |= {"id": 1000 + number}
            if name == "outside":
                content["annotations"][-1] |= {"bbox": [600, number, 400, 20]}  # the same box again counts as twice
        if not refused:
            assert len(read_layouts(written(content), PUBLAYNET, 20)) == 12
            continue
        with pytest.raises(GraftError, match=r"49 of the 97 elements of a.json cannot be used") as error:
            read_layouts(written(content), PUBLAYNET, 20)
        assert "\n" not in str(error.value)


def test_segmentation_does_not_matter() -> None:
    """Polygons, run lengths (with iscrowd 0), empty and none: the reader takes the box."""
    content = coco()
    shapes = [[], None, {"counts": "abc", "size": [792, 612]}, [[1, 2]]] * 12
    for each, shape in zip(content["annotations"], shapes, strict=True):
        each["segmentation"] = shape
    pages = read_layouts(written(content), PUBLAYNET, 20)
    assert len(pages) == 12 and not pages.named


@pytest.mark.parametrize("area", ["right", "one", "none"])
def test_corners_are_refused(area: str) -> None:
    content = coco()
    for each in content["annotations"]:
        x, y, w, h = each["bbox"]
        each |= {"bbox": [x, y, x + w, y + h]} | {"right": {"area": w * h}, "one": {"area": 1}, "none": {}}[area]
    with pytest.raises(GraftError, match=r"the boxes of .*a.json are corners .left, top, right, bottom."):
        read_layouts(written(content), PUBLAYNET, 20)


def test_small_corners_are_known_by_their_area() -> None:
    """No element exceeds the page if corners are read as sizes; the areas show the unit."""
    content = coco(3)
    content["annotations"] = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [10, 10, 30, 40], "area": 20 * 30} for i in (1, 2, 3)
    ]
    with pytest.raises(GraftError, match="are corners"):
        read_layouts(written(content), PUBLAYNET, 20)
    for each in content["annotations"]:
        each["area"] = 30 * 40
    found = read_layouts(written(content), PUBLAYNET, 20).boxes[0, 0]
    np.testing.assert_allclose(found, [10 / 612, 10 / 792, 40 / 612, 50 / 792], rtol=1e-5)


def test_fractions_are_refused() -> None:
    content = coco()
    for each in content["annotations"]:
        each["bbox"] = [v / s for v, s in zip(each["bbox"], (612, 792) * 2, strict=True)]
    with pytest.raises(GraftError, match=r"lie in \[0, 1\], but COCO's are in pixels"):
        read_layouts(written(content), PUBLAYNET, 20)
    for each in content["images"]:
        each |= {"width": 1, "height": 1}
    assert len(read_layouts(written(content), PUBLAYNET, 20)) == 12  # a page of one unit


def test_wide_boxes_are_no_corners() -> None:
    """Left, top, width, height with each box wider and higher than it is far from the corner."""
    content = coco(2)
    for each in content["annotations"]:
        each["bbox"] = [10 + each["id"] % 10, 20, 500, 700]
    assert len(read_layouts(written(content), PUBLAYNET, 20)) == 2


SCREEN = {
    "bounds": [0, 0, 100, 200],
    "children": [
        {"bounds": [0, 0, 50, 50], "componentLabel": "Text", "children": [None]},
        None,
        {"bounds": [0, 100, 100, 200], "componentLabel": "Image", "children": None},
    ],
}
BROKEN = {
    "cut": json.dumps(SCREEN)[:60],
    "empty": "",
    "list": "[1]",
    "null": "null",
    "coco": json.dumps(coco(1)),
    "bounds": json.dumps({**SCREEN, "bounds": [0, 0]}),
    "no size": json.dumps({**SCREEN, "bounds": [0, 0, 0, 200]}),
    "no labels": json.dumps({"bounds": [0, 0, 9, 9], "children": [{"bounds": [0, 0, 1, 1]}]}),
    "deep": "[" * 3000,
}


@pytest.mark.parametrize("name", BROKEN)
def test_odd_file_of_a_rico_folder(name: str, folder: Path) -> None:
    (folder / "screens").mkdir()
    for i in range(3):
        written(SCREEN, f"screens/{i}.json", bom=i == 1)
    written(BROKEN[name], "screens/odd.json")
    written("not looked at", "screens/._0.json")
    pages = read_layouts("screens", RICO, 25)
    assert len(pages) == 3 and [where for where, _ in pages.named] == ["odd.json"]
    assert list(pages.left_out) == ["files that are no semantic annotation"]
    for i in range(3):
        written(BROKEN[name], f"screens/odd{i}.json")
    with pytest.raises(GraftError, match=r"4 of the 7 layouts of screens cannot be used \(first: odd.json: "):
        read_layouts("screens", RICO, 25)


def test_raw_hierarchy_of_rico() -> None:
    raw = {"activity_name": "a", "activity": {"root": SCREEN, "added_fragments": []}, "request_id": "1"}
    assert np.array_equal(read_layouts(written(raw), RICO, 25).boxes, read_layouts(written(SCREEN), RICO, 25).boxes)
    bare = {"bounds": [0, 0, 9, 9], "children": [{"bounds": [0, 0, 1, 1]}]}
    with pytest.raises(GraftError, match="no component has a componentLabel"):
        read_layouts(written({"activity": {"root": bare}}), RICO, 25)


def test_component_without_bounds() -> None:
    screen = copy.deepcopy(SCREEN)
    screen["children"].append({"componentLabel": "Icon", "bounds": [1, 2]})
    pages = read_layouts(written(screen), RICO, 25)
    assert pages.named == [("a component 'Icon' of a.json", "components without bounds")] and pages.counts == [2]


def test_odd_line_of_tokens() -> None:
    """Lines end at line feeds alone; an odd line is rejected."""
    text = "text 10 20 30 40\ntext 10 20 x 40\ntitle\u2028here 1 2 3 4\r\ntext 1 2 30 40"
    pages = read_layouts(written(text, "a.txt", bom=True), (*PUBLAYNET, "title here"), 20)
    assert len(pages) == 3 and [where for where, _ in pages.named] == ["line 2"]
    assert list(pages.left_out) == ["lines that are no layout"]


def test_odd_record_of_arrays() -> None:
    good = {"labels": torch.tensor([1, 2]), "bboxes": torch.tensor([[0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]])}
    odd = [{"labels": good["labels"]}, {**good, "bboxes": good["bboxes"][:1]}, {**good, "bboxes": torch.zeros(2, 3)}]
    torch.save([good, good, odd[0], good, odd[1], good, odd[2]], "a.pt")
    pages = read_layouts("a.pt", PUBLAYNET, 20)
    assert len(pages) == 4 and [where for where, _ in pages.named] == ["record 3", "record 5", "record 7"]


def test_marks_of_byte_order_are_read() -> None:
    plain: LayoutSet = read_layouts(written(coco()), PUBLAYNET, 20)
    marked = read_layouts(written(coco(), bom=True), PUBLAYNET, 20)
    assert np.array_equal(plain.boxes, marked.boxes)
    text = {"page": [612, 792], "elements": [{"class": "figure", "box": [60, 50, 120, 60]}, {"class": "title"}]}
    assert partial_layout.read_partial_layout(written(text, bom=True), PUBLAYNET, 20).label.tolist() == [4, 1]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**20) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_any_value_anywhere(data: st.DataObject) -> None:
    """Any file of the right schema is read or refused in one sentence."""
    content: Any = data.draw(st.sampled_from([coco(2), SCREEN]))
    content = copy.deepcopy(content)
    for _ in range(data.draw(st.integers(1, 3))):
        place: Any = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = data.draw(st.sampled_from(keys))
            if not (isinstance(place[key], dict | list) and place[key]) or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = data.draw(VALUES)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_text(json.dumps(content))
        try:
            pages = read_layouts(str(path), PUBLAYNET, 20)
            assert np.isfinite(pages.boxes).all()
        except GraftError as error:
            assert str(error).strip() and "\n" not in str(error)
