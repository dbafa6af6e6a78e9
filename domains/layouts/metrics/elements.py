"""Layouts as arrays for metrics: boxes, classes and a mask."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from graft.errors import GraftError


class Elements(Protocol):
    """Any object with the elements of one page.

    Attributes:
        labels: (n,) class of each element.
        boxes: (n, 4) left, top, right, bottom, as fractions of the page.
    """

    @property
    def labels(self) -> Any:
        """(n,)."""

    @property
    def boxes(self) -> Any:
        """(n, 4)."""


@dataclass
class LayoutBatch:
    """A set of layouts, padded.

    Attributes:
        boxes: (B, N, 4) float64 left, top, right, bottom, as fractions of the page; 0 for padding.
        labels: (B, N) int64; −1 for padding.
    """

    boxes: Tensor
    labels: Tensor

    @classmethod
    def of(cls, items: "Sequence[Elements] | LayoutBatch") -> "LayoutBatch":
        """Return objects as arrays."""
        if isinstance(items, LayoutBatch):
            return items
        size = max([len(item.labels) for item in items] + [1])
        boxes, labels = np.zeros((len(items), size, 4)), np.full((len(items), size), -1)
        for i, item in enumerate(items):
            n = len(item.labels)
            labels[i, :n] = item.labels
            boxes[i, :n] = np.asarray(item.boxes, float).reshape(-1, 4)
        return cls(torch.from_numpy(boxes), torch.from_numpy(labels))

    @classmethod
    def centred(cls, boxes: Any, labels: Any, mask: Any) -> "LayoutBatch":
        """Return a set from boxes (B, N, 4) as centre x, centre y, width, height.

        Args:
            boxes: (B, N, 4) boxes.
            labels: (B, N) classes.
            mask: (B, N) above 0 where an element is.

        Raises:
            GraftError: The shapes do not belong together.
        """
        box, label = torch.as_tensor(boxes, dtype=torch.float64), torch.as_tensor(labels, dtype=torch.long)
        there = torch.as_tensor(mask) > 0
        if box.shape != (*label.shape, 4) or there.shape != label.shape:
            raise GraftError(
                f"boxes {tuple(box.shape)}, labels {tuple(label.shape)} and mask {tuple(there.shape)} are not of one "
                "set of layouts: (B, N, 4), (B, N) and (B, N)"
            )
        middle, half = box[..., :2], box[..., 2:] / 2
        corners = torch.cat([middle - half, middle + half], -1)
        return cls(corners * there[..., None], torch.where(there, label, -1))

    @classmethod
    def cat(cls, parts: "Iterable[LayoutBatch]") -> "LayoutBatch":
        """Return several sets as one."""
        each = list(parts)
        size = max([part.labels.shape[1] for part in each] + [1])
        grown = [part.pad_to(size) for part in each]
        return cls(torch.cat([part.boxes for part in grown]), torch.cat([part.labels for part in grown]))

    def pad_to(self, size: int) -> "LayoutBatch":
        """Return the set with room for ``size`` elements in each layout, more or fewer."""
        more = size - self.labels.shape[1]
        pad = torch.nn.functional.pad
        return LayoutBatch(pad(self.boxes, (0, 0, 0, more)), pad(self.labels, (0, more), value=-1))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: "Tensor | slice") -> "LayoutBatch":
        return LayoutBatch(self.boxes[index], self.labels[index])

    @property
    def mask(self) -> Tensor:
        """(B, N) bool, True where an element is."""
        return self.labels >= 0

    @property
    def counts(self) -> Tensor:
        """(B,) number of elements."""
        return self.mask.sum(1)

    @property
    def center_size(self) -> Tensor:
        """(elements, 4) centre x, centre y, width, height of all elements."""
        boxes = self.boxes[self.mask]
        low, high = boxes[:, :2], boxes[:, 2:]
        return torch.cat([(low + high) / 2, high - low], 1)

    def without(self, labels: Sequence[int]) -> "LayoutBatch":
        """Return the set without the elements of some classes."""
        gone = torch.isin(self.labels, torch.tensor(list(labels), dtype=torch.long))
        return LayoutBatch(self.boxes * ~gone[..., None], torch.where(gone, -1, self.labels))


def intersections(a: Tensor, b: Tensor) -> Tensor:
    """Return the areas of a ∩ b of boxes (..., 4) left, top, right, bottom that broadcast."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    return (high - low).clamp(min=0).prod(-1)


def areas(boxes: Tensor) -> Tensor:
    """Return the areas of boxes (..., 4); 0 for a negative side."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)
