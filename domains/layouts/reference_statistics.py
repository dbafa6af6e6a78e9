"""Statistics of real layouts, which a reference holds for comparison with its draws.

A reference holds the moments of the features of the layouts that its training held out, their classes, and the
quantiles of their boxes and numbers of elements: enough for FID, W_class, W_bbox and W_elements without the data.
"""

import functools

import torch
from torch import Tensor
from torchmetrics import Metric

from domains.layouts import features
from domains.layouts.metrics import (
    FID,
    FORMULA,
    Alignment,
    ElementCount,
    LayoutBatch,
    Overlap,
    WBbox,
    WClass,
    WElements,
    moments,
)
from domains.layouts.metrics import find_convention as by_name
from domains.layouts.metrics.wasserstein import class_counts
from domains.layouts.readers import LayoutSet

QUANTILES = 1001
NOTHING = LayoutBatch(torch.zeros(0, 1, 4, dtype=torch.float64), torch.zeros(0, 1, dtype=torch.long))


def compute_statistics(real: LayoutSet, network: "features.Encoder | None" = None) -> dict[str, Tensor]:
    """Return ``real_classes``, ``real_boxes``, ``real_counts``, and moments of features.

    Shapes are (K,), (`QUANTILES`, 4) and (`QUANTILES`,).

    Args:
        real: Layouts that were not trained on.
        network: Network of the features for ``real_moments`` (d + 1, d) and ``real_network``; the shipped one if not
            given. There are no moments if that one has other classes.
    """
    network = network or features.network_of(real.names)
    items = real.layouts()
    pages = LayoutBatch.of(items)
    found = {
        "real_classes": class_counts(pages, len(real.names)),
        "real_boxes": _quantiles(pages.center_size).float(),
        "real_counts": _quantiles(pages.counts.double()[:, None])[:, 0].float(),
    }
    if network is not None and len(items) > 1:
        found["real_moments"] = moments(features.layout_features(items, network)).float()
        found["real_network"] = features.network_fingerprint(network)
    return found


def comparable(statistics: "dict[str, Tensor]", network: "features.Encoder | None") -> bool:
    """Return True if ``real_moments`` are moments of the features of ``network``.

    Moments without a ``real_network`` belong to the shipped network.
    """
    if network is None or "real_moments" not in statistics:
        return False
    return torch.equal(
        statistics.get("real_network", features.network_fingerprint(features.load_encoder())),
        features.network_fingerprint(network),
    )


def make_metrics(
    statistics: "dict[str, Tensor]", names: tuple[str, ...], convention: str, network: "features.Encoder | None" = None
) -> dict[str, Metric]:
    """Return fresh metrics by name; comparisons with real layouts only if ``statistics`` holds them.

    Args:
        statistics: Statistics of `compute_statistics`.
        names: Names of the classes.
        convention: Convention of `domains.layouts.metrics.conventions`.
        network: Network of the features; the shipped one if not given. There is no FID if it has other classes, or if
            the moments belong to another network.
    """
    network = network or features.network_of(names)
    found: dict[str, Metric] = {
        "alignment": Alignment(convention),
        "overlap": Overlap(convention, names),
        "elements": ElementCount(convention),
    }
    if by_name(convention).align_to_padding:
        # without padding, which would count the margin of a single element
        found["alignment_formula"] = Alignment(FORMULA)
    if "real_classes" in statistics:
        by_class, by_box = WClass(NOTHING, len(names), convention), WBbox(NOTHING, convention)
        by_count = WElements(NOTHING, convention)
        by_class.real, by_box.real = statistics["real_classes"], statistics["real_boxes"].double()
        by_count.real = statistics["real_counts"].double()
        found |= {"w_class": by_class, "w_bbox": by_box, "w_elements": by_count}
    if comparable(statistics, network):
        of_network = functools.partial(features.layout_features, network=network)
        found["fid"] = FID(statistics["real_moments"].double(), of_network, convention, known=True)
    return found


def _quantiles(values: Tensor) -> Tensor:
    """Return (`QUANTILES`, d) quantiles of (n, d): the middles of parts of equal weight."""
    at = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    return torch.quantile(values, at.to(values), dim=0, interpolation="nearest")
