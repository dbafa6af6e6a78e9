"""MaxIoU: similarity of generated and real layouts of the same classes.

Kikuchi et al. 2021.
"""

from collections.abc import Sequence
from itertools import permutations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat
from typing_extensions import override

from domains.layouts.metrics.conventions import Convention
from domains.layouts.metrics.conventions import find_convention as by_name
from domains.layouts.metrics.elements import Elements, LayoutBatch, areas, intersections

SMALL = 3  # elements of a class up to which all permutations are tried
PAIRS = 20_000  # pairs of layouts at a time, to limit memory


def maximum_iou(generated: LayoutBatch, real: LayoutBatch) -> float:
    """Return MaxIoU of two sets, in [0, 1]; 0 if no two layouts have the same classes.

    Layouts are grouped by their multiset of classes. The similarity of two layouts of a group is the mean IoU of their
    elements in the best one-to-one assignment within each class. Then the generated and the real layouts of a group are
    assigned one to one, and the mean is taken over all pairs of the assignments.
    """
    scores = matched_ious(generated, real)
    return float(np.concatenate(scores).mean()) if scores else 0.0


def matched_ious(generated: LayoutBatch, real: LayoutBatch) -> list[NDArray[np.float64]]:
    """Return the similarities of the assigned pairs of each group that both sets have."""
    generated, real = _sorted(generated), _sorted(real)
    ours, theirs = _groups(generated), _groups(real)
    out = []
    for key in sorted(ours.keys() & theirs.keys()):
        if not key:  # empty layouts have no similarity
            continue
        score = pairwise_mean_iou(generated.boxes[ours[key], : len(key)], real.boxes[theirs[key], : len(key)], key)
        out.append(score[linear_sum_assignment(score, maximize=True)])
    return out


def _groups(pages: LayoutBatch) -> dict[tuple[int, ...], Tensor]:
    """Return the positions of `_sorted` layouts by multiset of classes."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, labels in enumerate(pages.labels.tolist()):
        groups.setdefault(tuple(label for label in labels if label >= 0), []).append(i)
    return {key: torch.tensor(rows) for key, rows in groups.items()}


def _sorted(pages: LayoutBatch) -> LayoutBatch:
    """Return the layouts with their elements in the order of the classes, padding last."""
    last = torch.iinfo(torch.long).max
    order = torch.where(pages.mask, pages.labels, last).argsort(dim=1, stable=True)
    return LayoutBatch(pages.boxes.gather(1, order[..., None].expand(-1, -1, 4)), pages.labels.gather(1, order))


def pairwise_mean_iou(ours: Tensor, theirs: Tensor, labels: Sequence[int]) -> NDArray[np.float64]:
    """Return (A, B) mean IoU of layouts of one multiset, elements assigned within their class.

    Args:
        ours: (A, n, 4) boxes in the order of ``labels``.
        theirs: (B, n, 4) boxes in the order of ``labels``.
        labels: (n,) classes, ascending.
    """
    total = np.zeros((len(ours), len(theirs)))
    kinds = np.asarray(labels)
    for kind in np.unique(kinds):
        places = torch.from_numpy(np.flatnonzero(kinds == kind))
        block = max(1, PAIRS // len(theirs))
        for start in range(0, len(ours), block):
            some = slice(start, start + block)
            total[some] += _assigned(_iou(ours[some][:, places], theirs[:, places]))
    return total / len(labels)


def _iou(ours: Tensor, theirs: Tensor) -> NDArray[np.float64]:
    """Return (A, B, m, m) IoU of all pairs of boxes (A, m, 4) and (B, m, 4)."""
    a, b = ours[:, None, :, None], theirs[None, :, None]
    shared = intersections(a, b)
    union = areas(a) + areas(b) - shared
    found: NDArray[np.float64] = torch.where(union > 0, shared / union.clamp(min=1e-300), 0.0).numpy()
    return found


def _assigned(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (A, B) largest sum of one-to-one pairs of (A, B, m, m)."""
    size = iou.shape[-1]
    rows = np.arange(size)
    if size <= SMALL:
        sums = [iou[..., rows, list(columns)].sum(-1) for columns in permutations(range(size))]
        most: NDArray[np.float64] = np.max(sums, axis=0)
        return most
    pairs = iou.reshape(-1, size, size)
    columns = np.array([linear_sum_assignment(pair, maximize=True)[1] for pair in pairs]).reshape(-1, size)
    best = np.take_along_axis(pairs, columns[..., None], -1)[..., 0].sum(-1)
    found: NDArray[np.float64] = best.reshape(iou.shape[:2])
    return found


class MaxIoU(Metric):
    """`maximum_iou` of the layouts with the real ones.

    Args:
        real: Real layouts.
        convention: Convention of `domains.layouts.metrics.conventions`.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    full_state_update = False
    higher_is_better = True
    boxes: "list[Tensor] | Tensor"
    labels: "list[Tensor] | Tensor"

    def __init__(self, real: "Sequence[Elements] | LayoutBatch", convention: "str | Convention", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.convention = by_name(convention)
        self.real = self.convention.pages(real)
        self.add_state("boxes", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    @override
    def update(self, items: "Sequence[Elements] | LayoutBatch") -> None:
        pages = _sorted(self.convention.pages(items)).pad_to(self.convention.max_elements)
        assert isinstance(self.boxes, list) and isinstance(self.labels, list)
        self.boxes.append(pages.boxes.to(self.device))
        self.labels.append(pages.labels.to(self.device))

    @override
    def compute(self) -> Tensor:
        if not len(self.labels):
            return torch.tensor(0.0)
        pages = LayoutBatch(dim_zero_cat(self.boxes).cpu(), dim_zero_cat(self.labels).cpu())
        return torch.tensor(maximum_iou(pages, self.real), dtype=torch.float64)
