"""Appearance of pictures: colours, saturation, edges and near-duplicates, which a reward may spoil unseen.

Each is a metric that the alarms compare with the reference's pictures. A reward that is gamed drives pictures to one
colour, to noise or to copies of each other, and none of these needs a network to be seen.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from typing_extensions import override

from domains.images.pixels import pil_to_tensor
from graft.domain.metrics import Collected

GREY_LEVELS = 16
"""Number of levels of a grey picture's histogram."""
COLOUR_LEVELS = 4
"""Number of levels of each channel of a colour picture's histogram."""
EDGE = 0.1
"""Difference of neighbouring pixels that is an edge, as a share of white."""
SIDE = 8
"""Side of the small grey pictures that are compared."""
NEAR = 0.05
"""Root mean square difference of two small pictures that are near-duplicates, as a share of white."""


def colour_entropy(pixels: Tensor) -> Tensor:
    """Return (n,) entropy in bits of the colours within each of (n, C, H, W) uint8 pictures.

    It is 0 for a picture of one colour, and that of `GREY_LEVELS` or `COLOUR_LEVELS`³ equally frequent colours at most.
    """
    levels = GREY_LEVELS if pixels.shape[1] == 1 else COLOUR_LEVELS
    steps = pixels.long() * levels // 256
    index = torch.zeros_like(steps[:, 0])
    for channel in steps.unbind(1):
        index = index * levels + channel
    counts = torch.zeros(len(pixels), levels ** pixels.shape[1], dtype=torch.float64, device=pixels.device)
    counts.scatter_add_(1, index.flatten(1), torch.ones_like(index.flatten(1), dtype=torch.float64))
    share = counts / counts.sum(1, keepdim=True)
    bits: Tensor = torch.special.entr(share).sum(1) / math.log(2)
    return bits


def saturation(pixels: Tensor) -> Tensor:
    """Return (n,) mean saturation, 0 (grey) to 1, of (n, 3, H, W) uint8 pictures."""
    high, low = pixels.double().amax(1), pixels.double().amin(1)
    return ((high - low) / high.clamp(min=1)).flatten(1).mean(1)


def edge_density(pixels: Tensor) -> Tensor:
    """Return (n,) share of neighbouring pixels that differ by more than `EDGE` in grey, of (n, C, H, W) uint8."""
    grey = pixels.double().mean(1) / 255
    across, down = grey.diff(dim=2).abs(), grey.diff(dim=1).abs()
    found = torch.cat([across.flatten(1), down.flatten(1)], 1) > EDGE
    return found.double().mean(1) if found.shape[1] else found.new_zeros(len(pixels), dtype=torch.float64)


class MeanOfPictures(Metric):
    """Mean over pictures of a number of each one; no direction is better, so a fall and a rise raise an alarm.

    Args:
        number: Function from (n, C, H, W) uint8 pixels to (n,) numbers.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    full_state_update = False
    higher_is_better = None
    total: Tensor
    count: Tensor

    def __init__(self, number: Callable[[Tensor], Tensor], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.number = number
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    @override
    def update(self, images: "list[Any]") -> None:
        if images:
            self.total += self.number(pil_to_tensor(images)).sum().to(self.device)
            self.count += len(images)

    @override
    def compute(self) -> Tensor:
        """Return the mean; NaN of an empty set."""
        return self.total / self.count


class Distinct(Collected):
    """Share of pictures that are no near-duplicate of another picture of the set.

    Two pictures are near-duplicates if their small grey versions differ by less than `NEAR`.
    """

    higher_is_better = True

    @override
    def update(self, images: "list[Any]") -> None:
        if images:
            grey = pil_to_tensor(images).float().mean(1, keepdim=True) / 255
            self.collect(nn.functional.adaptive_avg_pool2d(grey, SIDE).flatten(1))

    @override
    def compute(self) -> Tensor:
        """Return the share among the first 2,000; NaN for less than two pictures."""
        small = self.collected(torch.zeros(0, SIDE * SIDE))[:2000].double()
        if len(small) < 2:
            return torch.tensor(torch.nan, device=self.device)
        apart = torch.cdist(small, small, compute_mode="donot_use_mm_for_euclid_dist") / SIDE
        return (apart.fill_diagonal_(torch.inf).amin(1) >= NEAR).double().mean()


def appearance_metrics(coloured: bool) -> dict[str, Metric]:
    """Return fresh metrics by name.

    Args:
        coloured: Pictures have colours; grey ones have no saturation.
    """
    out: dict[str, Metric] = {"colour_entropy": MeanOfPictures(colour_entropy)}
    if coloured:
        out["saturation"] = MeanOfPictures(saturation)
    return out | {"edge_density": MeanOfPictures(edge_density), "distinct": Distinct()}
