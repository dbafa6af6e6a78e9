"""What real layouts are like, in few numbers, so that a reference says what its draws are to be compared with.

A reference carries the moments of the features of the layouts that its training held out, their classes, and the
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
from domains.layouts.metrics import convention as by_name
from domains.layouts.metrics.wasserstein import class_counts
from domains.layouts.readers import LayoutSet

QUANTILES = 1001
NOTHING = LayoutBatch(torch.zeros(0, 1, 4, dtype=torch.float64), torch.zeros(0, 1, dtype=torch.long))


def compute_statistics(real: LayoutSet, network: "features.Encoder | None" = None) -> dict[str, Tensor]:
    """Return ``real_classes`` (K,), ``real_boxes`` (`QUANTILES`, 4), ``real_counts``, and moments of features.

    Args:
        real: Layouts that the training did not see.
        network: Of the features, ``real_moments`` (d + 1, d) and its ``real_network``; the one that ships if not given.
            Where that one is of other classes there are no moments.
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
        found["real_moments"] = moments(features.features(items, network)).float()
        found["real_network"] = features.fingerprint(network)
    return found


def comparable(facts: "dict[str, Tensor]", network: "features.Encoder | None") -> bool:
    """Return whether ``real_moments`` are of the features of ``network``.

    Moments without a ``real_network`` are of the network that ships.
    """
    if network is None or "real_moments" not in facts:
        return False
    return torch.equal(
        facts.get("real_network", features.fingerprint(features.encoder())), features.fingerprint(network)
    )


def metrics(
    facts: "dict[str, Tensor]", names: tuple[str, ...], convention: str, network: "features.Encoder | None" = None
) -> dict[str, Metric]:
    """Return fresh metrics by name; those that compare with real layouts where ``facts`` tells what these are like.

    Args:
        facts: See `summarise`.
        names: Of the classes.
        convention: See `domains.layouts.metrics.conventions`.
        network: Of the features; the one that ships if not given. There is no FID where it is of other classes, or
            where the moments are of another network.
    """
    network = network or features.network_of(names)
    found: dict[str, Metric] = {
        "alignment": Alignment(convention),
        "overlap": Overlap(convention, names),
        "elements": ElementCount(convention),
    }
    if by_name(convention).align_to_padding:
        found["alignment_formula"] = Alignment(FORMULA)  # without padding, which counts a lone element's margin
    if "real_classes" in facts:
        by_class, by_box = WClass(NOTHING, len(names), convention), WBbox(NOTHING, convention)
        by_count = WElements(NOTHING, convention)
        by_class.real, by_box.real = facts["real_classes"], facts["real_boxes"].double()
        by_count.real = facts["real_counts"].double()
        found |= {"w_class": by_class, "w_bbox": by_box, "w_elements": by_count}
    if comparable(facts, network):
        of_network = functools.partial(features.features, network=network)
        found["fid"] = FID(facts["real_moments"].double(), of_network, convention, known=True)
    return found


def _quantiles(values: Tensor) -> Tensor:
    """(`QUANTILES`, d) of (n, d), evenly spread over the law: as many parts of equal weight, the middle of each."""
    at = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    return torch.quantile(values, at.to(values), dim=0, interpolation="nearest")
