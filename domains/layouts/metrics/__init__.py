"""Metrics of a set of layouts, as torchmetrics; every share is a fraction.

Objects are any with ``labels`` (n,) and ``boxes`` (n, 4) left, top, right, bottom in fractions of the page, or a whole
set as `LayoutBatch`.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor
from torchmetrics import Metric

from domains.layouts.metrics.conventions import (
    CONVENTIONS,
    FORMULA,
    LAYOUTDM,
    LAYOUTFORMER,
    Convention,
    find_convention,
    metrics_table,
)
from domains.layouts.metrics.elements import Elements, LayoutBatch
from domains.layouts.metrics.fid import FID, Coverage, Features, frechet_of_moments, moments
from domains.layouts.metrics.maximum_iou import MaxIoU, maximum_iou
from domains.layouts.metrics.quality import Alignment, ElementCount, Overlap, alignment, overlap
from domains.layouts.metrics.wasserstein import WBbox, WClass, WElements, w_bbox, w_class

__all__ = [
    "CONVENTIONS",
    "FID",
    "FORMULA",
    "LAYOUTDM",
    "LAYOUTFORMER",
    "Alignment",
    "Convention",
    "Coverage",
    "ElementCount",
    "Elements",
    "Features",
    "LayoutBatch",
    "MaxIoU",
    "Overlap",
    "WBbox",
    "WClass",
    "WElements",
    "alignment",
    "compute_metrics",
    "find_convention",
    "frechet_of_moments",
    "make_metrics",
    "maximum_iou",
    "metrics_table",
    "moments",
    "overlap",
    "w_bbox",
    "w_class",
]


def make_metrics(
    names: Sequence[str],
    real: "Sequence[Elements] | None" = None,
    network: "Features | None" = None,
    of: "str | Convention" = "layoutformer",
) -> dict[str, Metric]:
    """Return fresh metrics by name, in the form of `graft.GraftModule.metrics`.

    Args:
        names: Names of the classes.
        real: Layouts for comparison; without them there are only alignment, overlap and element counts.
        network: Function from n layouts to (n, d) features; without it there are no fid and coverage.
        of: Convention.
    """
    kind = find_convention(of)
    found: dict[str, Metric] = {
        "alignment": Alignment(kind),
        "overlap": Overlap(kind, names),
        "elements": ElementCount(kind),
    }
    if real is not None:
        pages = kind.pages(real)
        found |= {
            "max_iou": MaxIoU(pages, kind),
            "w_class": WClass(pages, len(names), kind),
            "w_bbox": WBbox(pages, kind),
            "w_elements": WElements(pages, kind),
        }
    if real is not None and network is not None:
        features: Tensor = network([item for item in real if len(item.labels) <= kind.max_elements])
        found |= {"fid": FID(features, network, kind), "coverage": Coverage(features, network, kind)}
    return found


def compute_metrics(items: Sequence[Elements], found: Mapping[str, Metric]) -> dict[str, float]:
    """Return the value of each metric for some layouts."""
    for metric in found.values():
        metric.reset()
        metric.update(items)
    return {name: float(metric.compute()) for name, metric in found.items()}
