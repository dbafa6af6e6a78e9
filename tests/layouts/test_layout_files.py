"""Files and pictures of layouts."""

import io
import json
import xml.etree.ElementTree as ElementTree
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pytest

from domains.layouts.files import write_layouts
from domains.layouts.layout import PUBLAYNET, RICO, layout, layout_key
from domains.layouts.readers import read_layouts
from graft.errors import GraftError


@pytest.fixture(scope="module")
def items():
    return read_layouts("generated", PUBLAYNET, 20, 10).layouts()


def test_json_there_and_back(items, tmp_path) -> None:
    write_layouts(items, tmp_path / "a.json", [float(i) for i in range(9)] + [float("nan")])
    content = json.loads((tmp_path / "a.json").read_text())
    again = read_layouts(str(tmp_path / "a.json"), PUBLAYNET, 20).layouts()
    assert [layout_key(item) for item in again] == [layout_key(item) for item in items]
    assert [image.get("reward") for image in content["images"]] == [*map(float, range(9)), None]
    first = content["annotations"][0]
    np.testing.assert_allclose(np.array(first["bbox"]) / [612, 792, 612, 792], first["fraction"], atol=1e-4)
    assert {c["id"]: c["name"] for c in content["categories"]}[first["category_id"]] == items[0].classes[0]


NUMBERS = {"images": ("id", "width", "height"), "annotations": ("id", "image_id", "category_id", "area", "iscrowd")}


@pytest.mark.parametrize("page", [(612.0, 792.0), (1.0, 1.0), (595.28, 841.89)])
def test_json_is_complete_coco(page, items, tmp_path) -> None:
    """Every field of COCO's object detection format, with polygons and areas that are the boxes'."""
    beyond = layout(["text"], [[-0.1, 0.5, 0.2, 1.3]])
    pages = [replace(item, page=page) for item in [*items, beyond]]
    write_layouts(pages, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    assert list(content) == ["info", "licenses", "images", "annotations", "categories"]
    assert content["info"]["description"] and content["licenses"] == []
    assert len(content["annotations"]) == sum(map(len, pages))
    assert len({each["id"] for each in content["annotations"]}) == len(content["annotations"])
    for kind, names in NUMBERS.items():
        assert all(isinstance(each[name], int | float) for each in content[kind] for name in names)
    for each in content["annotations"]:
        x, y, w, h = each["bbox"]
        assert w > 0 and h > 0 and each["area"] == pytest.approx(w * h)
        (polygon,) = each["segmentation"]
        assert polygon == pytest.approx([x, y, x + w, y, x + w, y + h, x, y + h])
        fraction = np.array(each["bbox"]) / np.array(page * 2)
        np.testing.assert_allclose(fraction, each["fraction"], atol=2e-5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools, under NumPy 2
def test_pycocotools_reads_it(items, tmp_path) -> None:
    """Masks of its polygons cover what the boxes cover."""
    reader = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    write_layouts(items, tmp_path / "a.json")
    with redirect_stdout(io.StringIO()):
        found = reader.COCO(str(tmp_path / "a.json"))
    assert len(found.getImgIds()) == len(items)
    assert [each["name"] for each in found.loadCats(found.getCatIds())] == list(PUBLAYNET)
    assert len(found.getAnnIds(iscrowd=False)) == sum(map(len, items))
    for each in found.loadAnns(found.getAnnIds(imgIds=[1])):
        assert found.annToMask(each).sum() == pytest.approx(each["area"], rel=0.1)


def test_svg_has_every_element_and_a_legend(items, tmp_path) -> None:
    write_layouts(items, tmp_path / "a.svg", [0.5] * 10)
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    spaces = "{http://www.w3.org/2000/svg}"
    rectangles = root.findall(f"{spaces}rect")
    # the ground, a rectangle for each page, element and class
    assert len(rectangles) == 1 + len(items) + sum(map(len, items)) + len(PUBLAYNET)
    assert [text.text for text in root.findall(f"{spaces}text")] == ["0.5"] * 10 + list(PUBLAYNET)
    width, height = float(root.get("width")), float(root.get("height"))
    for each in rectangles:
        x, y, w, h = (float(each.get(name, 0)) for name in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + w <= width + 1e-6 and y + h <= height + 1e-6


def test_png_is_a_picture_whatever_the_classes(items, tmp_path) -> None:
    write_layouts(items, tmp_path / "a.png")
    write_layouts([layout(["Text", "Map View"], [[0, 0, 1, 0.5], [-0.2, 0, 0.5, 1.2]], RICO)], tmp_path / "b.png")
    for name in "ab":
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    write_layouts([], tmp_path / "none.json")
    assert json.loads((tmp_path / "none.json").read_text())["images"] == []


def test_other_formats_are_refused(items, tmp_path) -> None:
    with pytest.raises(GraftError, match=r"\.json, \.svg, \.png"):
        write_layouts(items, tmp_path / "a.pdf")
