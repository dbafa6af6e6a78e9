"""Layout metrics against figures worked out by hand and, where the data is there, the field's known answers."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from domains.layouts.metrics import (
    FID,
    LAYOUTDM,
    LAYOUTFORMER,
    Alignment,
    Coverage,
    ElementCount,
    LayoutBatch,
    MaxIoU,
    Overlap,
    WBbox,
    WClass,
    WElements,
    alignment,
    compute_metrics,
    find_convention,
    frechet_of_moments,
    make_metrics,
    maximum_iou,
    metrics_table,
    moments,
    overlap,
)
from domains.layouts.metrics.maximum_iou import pairwise_mean_iou
from graft.domain.distance import frechet
from graft.errors import GraftError

NAMES = ("text", "title", "list", "table", "figure")
SHARED = next((p / "shared/data" for p in Path(__file__).parents if (p / "shared/data").is_dir()), Path("absent"))


@dataclass
class Page:
    labels: list[int]
    boxes: list[list[float]]


def page(*elements: tuple[int, float, float, float, float]) -> Page:
    return Page([e[0] for e in elements], [list(e[1:]) for e in elements])


def random_pages(count: int, seed: int, most: int = 6, classes: int = 3) -> list[Page]:
    rng = np.random.default_rng(seed)
    out = []
    for _ in range(count):
        n = int(rng.integers(1, most + 1))
        low = rng.uniform(0, 0.6, (n, 2))
        boxes = np.concatenate([low, low + rng.uniform(0.1, 0.4, (n, 2))], 1)
        out.append(Page(rng.integers(0, classes, n).tolist(), boxes.tolist()))
    return out


TWO = page((0, 0.1, 0.1, 0.5, 0.2), (1, 0.13, 0.3, 0.6, 0.45))  # left edges 0.03 apart are the nearest lines
THREE = page((0, 0.1, 0.1, 0.5, 0.2), (0, 0.1, 0.3, 0.7, 0.5), (4, 0.25, 0.62, 0.86, 0.97))


def test_alignment_by_hand() -> None:
    """The third element's nearest line: its right edge 0.86 is 0.16 from 0.7, its left 0.15, its centre 0.155."""
    two, three = alignment(LayoutBatch.of([TWO, THREE])).tolist()
    assert two == pytest.approx(-np.log(1 - 0.03))
    assert three == pytest.approx(-np.log(1 - 0.15) / 3)  # the others share their left edge


def test_alignment_of_one_element() -> None:
    """0 by the formula; the families' code measures it from the corner of the page."""
    one = [page((0, 0.3, 0.2, 0.9, 0.7))]
    assert float(alignment(LayoutBatch.of(one))) == 0
    for kind, expected in (("formula", 0.0), ("layoutformer", -np.log(1 - 0.2)), ("layoutdm", -np.log(1 - 0.2))):
        metric = Alignment(kind)
        metric.update(one)
        assert float(metric.compute()) == pytest.approx(expected)
    full = [Page([0] * 20, [[0.3, i / 20, 0.9, (i + 1) / 20] for i in range(20)])]  # no padding at 20, but at 25
    bumped = [Page([0] * 20, [[0.3 + i / 1000, i / 20, 0.9, (i + 1) / 20] for i in range(20)])]
    for pages in (full, bumped):
        assert float(alignment(LayoutBatch.of(pages), 20)) == float(alignment(LayoutBatch.of(pages)))


def test_overlap_by_hand() -> None:
    """A unit square on a quarter of it: 1/4 of the one and all of the other, mean 0.625; no area has no overlap."""
    both = page((0, 0.0, 0.0, 0.8, 0.8), (1, 0.4, 0.4, 0.8, 0.8))
    apart = page((0, 0.0, 0.0, 0.4, 0.4), (0, 0.4, 0.0, 0.8, 0.4))
    line = page((0, 0.0, 0.0, 0.8, 0.8), (1, 0.4, 0.0, 0.4, 0.8))
    assert overlap(LayoutBatch.of([both, apart, line])).tolist() == pytest.approx([0.625, 0.0, 0.0])
    assert overlap(LayoutBatch.of([both]), ignored=[1]).tolist() == [0.0]


def test_ignored_classes_are_one_familys() -> None:
    names = ("Text", "Card")
    both = [page((0, 0.0, 0.0, 0.8, 0.8), (0, 0.4, 0.4, 0.8, 0.8), (1, 0.0, 0.0, 1.0, 1.0))]
    values = []
    for kind in (LAYOUTFORMER, LAYOUTDM):
        metric = Overlap(kind, names)
        metric.update(both)
        values.append(float(metric.compute()))
    # with the card the texts are covered wholly once more, and the card by 0.64 and 0.16
    assert values == pytest.approx([1.25 / 2, (1.25 + 2 + 0.8) / 3])


def test_larger_layouts_are_not_in_a_familys_data() -> None:
    large = Page([0] * 21, [[0.1, i / 21, 0.9, (i + 1) / 21] for i in range(21)])
    for kind, expected in ((LAYOUTFORMER, 2.0), (LAYOUTDM, 11.5)):
        metric = ElementCount(kind)
        metric.update([TWO, large])
        assert float(metric.compute()) == expected


def test_maximum_iou_by_hand() -> None:
    """Only equal multisets are compared; within a class the better assignment counts, and order does not."""
    a, b = (0, 0.0, 0.0, 0.4, 0.4), (0, 0.5, 0.5, 0.9, 0.9)
    half = (0, 0.0, 0.0, 0.4, 0.2)  # IoU 1/2 with a
    generated, real = (
        LayoutBatch.of([page(b, half), page((1, *a[1:]))]),
        LayoutBatch.of([page(a, b), page((2, *a[1:]))]),
    )
    assert maximum_iou(generated, real) == pytest.approx((1 + 0.5) / 2)
    assert maximum_iou(LayoutBatch.of([page((3, *a[1:]))]), real) == 0
    # two layouts and one real: the better one is paired, the other with nothing
    assert maximum_iou(LayoutBatch.of([page(a), page(half)]), LayoutBatch.of([page(a)])) == 1.0


def test_maximum_iou_of_a_set_with_itself() -> None:
    pages = random_pages(200, 0)
    assert maximum_iou(LayoutBatch.of(pages[::-1]), LayoutBatch.of(pages)) == pytest.approx(1.0)
    turned = [Page(p.labels[::-1], p.boxes[::-1]) for p in pages]
    assert maximum_iou(LayoutBatch.of(turned), LayoutBatch.of(pages)) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_assignments_are_the_best(size: int) -> None:
    """Against every permutation, and the definition spelled out for a pair of layouts."""
    rng = np.random.default_rng(size)
    low = rng.uniform(0, 0.6, (2, 3, size, 2))
    boxes = torch.from_numpy(np.concatenate([low, low + rng.uniform(0.2, 0.4, (2, 3, size, 2))], -1))

    def iou(p: torch.Tensor, q: torch.Tensor) -> float:
        w = min(p[2], q[2]) - max(p[0], q[0])
        h = min(p[3], q[3]) - max(p[1], q[1])
        shared = max(w, 0) * max(h, 0)
        return float(shared / ((p[2] - p[0]) * (p[3] - p[1]) + (q[2] - q[0]) * (q[3] - q[1]) - shared))

    found = pairwise_mean_iou(boxes[0], boxes[1], [2] * size)
    for i, j in itertools.product(range(3), range(3)):
        sums = [
            sum(iou(boxes[0, i, k], boxes[1, j, to]) for k, to in enumerate(order))
            for order in itertools.permutations(range(size))
        ]
        assert found[i, j] == pytest.approx(max(sums) / size)
    pairs = found[linear_sum_assignment(found, maximize=True)].mean()
    each = [LayoutBatch(boxes[s], torch.full((3, size), 2)) for s in (0, 1)]
    assert maximum_iou(*each) == pytest.approx(pairs)


def test_distances_by_hand() -> None:
    real = [page((0, 0.0, 0.0, 0.2, 0.2), (1, 0.4, 0.4, 0.6, 0.8)), page((0, 0.0, 0.0, 0.2, 0.2))]
    moved = [Page(p.labels, [[x0 + 0.1, y0, x1 + 0.1, y1 + 0.2] for x0, y0, x1, y1 in p.boxes]) for p in real]
    by = "layoutformer"
    distances = {"w_class": WClass(real, 3, by), "w_bbox": WBbox(real, by), "w_elements": WElements(real, by)}
    found = compute_metrics(moved, distances)
    assert found == pytest.approx({"w_class": 0.0, "w_bbox": (0.1 + 0.1 + 0.0 + 0.2) / 4, "w_elements": 0.0})
    other = [page((2, 0.0, 0.0, 0.2, 0.2))]
    found = compute_metrics(other, {"w_class": WClass(real, 3, by), "w_elements": WElements(real, by)})
    assert found == pytest.approx({"w_class": 2.0, "w_elements": 0.5})


def test_there_are_no_figures_without_layouts() -> None:
    """Pages of more elements than the convention has are left out, and no layout is not a perfect one."""
    large = Page([0] * 26, [[0.1, 0.1, 0.2, 0.2]] * 26)
    real = [Page([0], [[0.1, 0.1, 0.2, 0.2]])]
    figures = compute_metrics([large], make_metrics(["text"], real))
    nothing = {"alignment", "overlap", "elements", "w_class", "w_bbox", "w_elements"}
    assert {name for name, value in figures.items() if math.isnan(value)} == nothing
    assert "nan" not in metrics_table({"draws": figures}, "layoutformer")


def test_frechet_of_moments_is_that_of_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(50, 4, generator=generator) @ torch.randn(4, 4, generator=generator)
    b = torch.randn(60, 4, generator=generator) + 0.5
    assert frechet_of_moments(moments(a), moments(b)) == pytest.approx(frechet(a, b))
    assert frechet_of_moments(moments(a), moments(a)) == pytest.approx(0, abs=1e-9)
    mean, eye = torch.tensor([[3.0, 4.0]]), torch.eye(2)
    assert frechet_of_moments(torch.cat([mean, 4 * eye]), torch.cat([0 * mean, eye])) == pytest.approx(25 + 2)
    with pytest.raises(GraftError, match="cannot be compared"):
        frechet_of_moments(moments(a), moments(b[:, :3]))
    without_mean = moments(a)
    without_mean[0] = torch.nan
    with pytest.raises(GraftError, match="not finite"):
        frechet_of_moments(without_mean, moments(b))


def areas_and_counts(pages: list[Page]) -> torch.Tensor:
    return torch.tensor(
        [[len(p.labels), sum((b[2] - b[0]) * (b[3] - b[1]) for b in p.boxes)] for p in pages], dtype=torch.float64
    )


def test_metrics_of_batches_are_those_of_the_whole() -> None:
    """The set is what counts, not how it came; any function of layouts serves as the network."""
    real, made = random_pages(80, 1), random_pages(60, 2)
    found = make_metrics(NAMES, real, areas_and_counts)
    assert list(found) == [
        "alignment",
        "overlap",
        "elements",
        "max_iou",
        "w_class",
        "w_bbox",
        "w_elements",
        "fid",
        "coverage",
    ]
    whole = compute_metrics(made, found)
    for name, metric in found.items():
        metric.reset()
        for start in range(0, len(made), 17):
            metric.update(made[start : start + 17])
        assert float(metric.compute()) == pytest.approx(whole[name]), name
    assert whole["fid"] == pytest.approx(frechet(areas_and_counts(made), areas_and_counts(real)))
    same = compute_metrics(real, found)
    assert (
        same["max_iou"] == pytest.approx(1)
        and same["coverage"] == pytest.approx(1)
        and same["fid"] == pytest.approx(0, abs=1e-9)
    )
    assert set(make_metrics(NAMES)) == {"alignment", "overlap", "elements"}


def test_nothing_seen() -> None:
    real = random_pages(10, 3)
    values = compute_metrics([], make_metrics(NAMES, real, areas_and_counts))
    assert np.isnan(values.pop("fid"))
    assert set(values) >= {"alignment", "max_iou", "coverage"}
    empty = [Page([], [])]
    assert alignment(LayoutBatch.of(empty)).tolist() == [0.0] == overlap(LayoutBatch.of(empty)).tolist()
    assert maximum_iou(LayoutBatch.of(empty), LayoutBatch.of(empty)) == 0


def test_published_moments_serve_as_the_real_ones() -> None:
    real, made = random_pages(80, 1), random_pages(60, 2)
    features = areas_and_counts(real)
    pair = [FID(features, areas_and_counts, "formula"), FID(moments(features), areas_and_counts, "formula", known=True)]
    for metric in pair:
        metric.update(made)
    assert float(pair[0].compute()) == pytest.approx(float(pair[1].compute()))
    assert Coverage(features, areas_and_counts, "formula").k == 5 and MaxIoU(real, "formula").higher_is_better


def test_pages_of_centres() -> None:
    corners = LayoutBatch.of([TWO, page((3, 0.0, 0.0, 1.0, 0.5))])
    boxes = torch.zeros(2, 2, 4)
    boxes[0] = corners.center_size[:2].float()
    boxes[1, 0], boxes[1, 1] = torch.tensor([0.5, 0.25, 1.0, 0.5]), 0.7
    again = LayoutBatch.centred(boxes.double(), [[0, 1], [3, 2]], [[1, 1], [1, 0]])
    assert torch.allclose(again.boxes, corners.boxes, atol=1e-7) and torch.equal(again.labels, corners.labels)
    with pytest.raises(GraftError, match="one set of layouts"):
        LayoutBatch.centred(boxes, [[0, 1]], [[1, 1], [1, 0]])


def test_tables_name_their_convention() -> None:
    text = metrics_table({"real": {"alignment": 0.000227, "overlap": 0.0029}, "made": {"overlap": 0.1}}, "layoutformer")
    assert "| real | 0.0227 | 0.0029 |" in text and "| made | – | 0.1000 |" in text
    assert "`layoutformer`" in text and "Card" in text
    assert "`layoutdm`" in metrics_table({}, "layoutdm") and "25 elements" in metrics_table({}, "layoutdm")
    with pytest.raises(GraftError, match="layoutformer or layoutdm or formula"):
        find_convention("kikuchi")


def publaynet(name: str) -> LayoutBatch:
    path = SHARED / "publaynet_max20" / name
    if not path.exists():
        pytest.skip("no PubLayNet here")
    pages = []
    for line in path.read_text().splitlines():
        words = line.split()  # class, left, top, right, bottom, bar
        places = np.array([words[i::6] for i in range(1, 5)], float).T / 127
        pages.append(Page([NAMES.index(word) for word in words[::6]], places.tolist()))
    return LayoutBatch.of(pages)


def test_known_answers_of_publaynet() -> None:
    test, validation = publaynet("src1_test.txt"), publaynet("src1_valid.txt")
    found = make_metrics(NAMES, test)
    del found["max_iou"]
    values = [{name: round(v, 6) for name, v in compute_metrics(pages, found).items()} for pages in (test, validation)]
    assert [round(100 * v["alignment"], 4) for v in values] == [0.0227, 0.0698]
    assert [round(v["overlap"], 4) for v in values] == [0.0029, 0.0036]
    assert round(values[1]["w_class"], 4) == 0.0755 and round(values[1]["w_bbox"], 4) == 0.0095


def test_known_answer_of_the_published_features() -> None:
    files = [SHARED / "layout_fid_stats" / f"FIDNet_musig_{name}_publaynet.pt" for name in ("val", "test")]
    if not files[0].exists():
        pytest.skip("no published statistics here")
    a, b = (torch.load(path, weights_only=True) for path in files)
    assert round(frechet_of_moments(a, b), 4) == 8.1038
