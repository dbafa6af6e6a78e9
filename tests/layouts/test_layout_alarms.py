"""The usual ways to buy a layout reward raise alarms; another draw of the same pages raises none."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from domains.layouts import reference_statistics
from domains.layouts.features import layout_features
from domains.layouts.layout import PUBLAYNET, Layout
from domains.layouts.metrics import LayoutBatch, alignment
from domains.layouts.readers import LayoutSet, read_layouts
from graft.evaluation.alarms import Alarms
from graft.evaluation.alarms.statistics import SampleSet, statistics
from graft.evaluation.alarms.tolerances import check_tolerances


@pytest.fixture(scope="module")
def pages() -> LayoutSet:
    return read_layouts("generated", PUBLAYNET, 20, 1050)


def jittered(items: list[Layout], seed: int) -> list[Layout]:
    """Pages as a generator makes them: lines meet only nearly."""
    random = np.random.default_rng(seed)
    return [Layout(item.labels, item.boxes + 0.003 * random.normal(size=item.boxes.shape)) for item in items]


HACKS: dict[str, tuple[Callable[[Layout], Layout], set[str]]] = {
    "one element": (
        lambda item: Layout(item.labels[:1], item.boxes[:1]),
        {"elements", "w_elements", "fid", "feature_distance"},
    ),
    "equal boxes": (
        lambda item: Layout(item.labels, np.tile(item.boxes[:1], (len(item), 1))),
        {"overlap", "fid", "feature_distance", "w_bbox"},
    ),
    "one page": (
        lambda item: Layout(np.zeros(3, int), np.array([[0.1, y, 0.9, y + 0.2] for y in (0.1, 0.4, 0.7)])),
        {"internal_diversity", "feature_distance", "w_class", "w_elements"},
    ),
}


def raised(items: list[Layout], reference: list[Layout], facts: dict[str, torch.Tensor]) -> set[str]:
    ours, theirs = (SampleSet(each, layout_features(each)) for each in (items, reference))

    def fresh() -> dict:
        return dict(reference_statistics.make_metrics(facts, PUBLAYNET, "layoutformer"))

    found, own = (statistics(each, theirs, fresh) for each in (ours, theirs))
    return {each.statistic for each in check_tolerances(Alarms(), 0, found, own) if each.alarm}


@pytest.mark.parametrize("name", HACKS)
def test_hack(name: str, pages: LayoutSet) -> None:
    items = pages.layouts()
    facts, reference = (
        reference_statistics.compute_statistics(pages.take(np.arange(500, 1000))),
        jittered(items[:128], 0),
    )
    hack, wanted = HACKS[name]
    hacked = [hack(item) for item in reference]
    assert float(alignment(LayoutBatch.of(hacked)).mean()) < 1e-9  # the best alignment there is
    assert wanted <= raised(hacked, reference, facts)


def test_nothing_happened(pages: LayoutSet) -> None:
    items = pages.layouts()
    facts = reference_statistics.compute_statistics(pages.take(np.arange(500, 1000)))
    assert raised(jittered(items[:128], 1), jittered(items[:128], 0), facts) == set()
