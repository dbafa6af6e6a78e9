"""Appearance of pictures: each number on pictures with a known value, and each alarm on bad pictures."""

import math

import pytest
import torch
from torch import Tensor

from domains.images.appearance import (
    SIDE,
    Distinct,
    appearance_metrics,
    colour_entropy,
    edge_density,
    saturation,
)
from domains.images.dataset import digits
from domains.images.pixels import to_pil
from graft.evaluation.alarms import Alarms, SampleSet, check_tolerances, statistics

DIGITS = torch.from_numpy(digits.read_digits().pixels[:200]).movedim(-1, 1).contiguous()
G = torch.Generator().manual_seed(0)


def flat(*colour: int, side: int = 8) -> Tensor:
    return torch.tensor(colour, dtype=torch.uint8).view(1, -1, 1, 1).expand(1, -1, side, side).contiguous()


def test_colour_entropy() -> None:
    halves = flat(0).clone()
    halves[..., :4] = 255
    assert colour_entropy(flat(7)).item() == 0 and colour_entropy(flat(9, 200, 30)).item() == 0
    assert colour_entropy(halves).item() == pytest.approx(1)
    ramp = torch.arange(256, dtype=torch.int32).view(1, 1, 16, 16).to(torch.uint8)
    assert colour_entropy(ramp).item() == pytest.approx(4)  # all 16 levels alike
    corners = torch.cat([flat(255 * (k & 1), 255 * (k >> 1 & 1), 255 * (k >> 2), side=2) for k in range(8)], 3)
    assert colour_entropy(corners).item() == pytest.approx(3)
    assert colour_entropy(torch.cat([flat(3), ramp[..., :8, :8]])).shape == (2,)


def test_saturation() -> None:
    assert saturation(torch.cat([flat(255, 0, 0), flat(9, 9, 9), flat(0, 0, 0), flat(200, 100, 150)])).tolist() == [
        1,
        0,
        0,
        0.5,
    ]


def test_edge_density() -> None:
    board = ((torch.arange(8)[:, None] + torch.arange(8)) % 2 * 255).to(torch.uint8).view(1, 1, 8, 8)
    stripes = (torch.arange(8) % 2 * 255).to(torch.uint8).expand(1, 3, 8, 8)
    faint = (torch.arange(8) % 2 * 20).to(torch.uint8).expand(1, 1, 8, 8)
    assert edge_density(board).item() == 1 and edge_density(stripes).item() == 0.5
    assert edge_density(faint).item() == edge_density(flat(3)).item() == edge_density(flat(3, side=1)).item() == 0


def test_near_duplicates() -> None:
    metric = Distinct()
    metric.update(to_pil(DIGITS[:50].float() / 127.5 - 1))
    assert metric.compute() == 1
    copies = (DIGITS[:10].int() + torch.randint(-3, 4, (10, 1, SIDE, SIDE), generator=G)).clamp(0, 255)
    metric.update(to_pil(copies.float() / 127.5 - 1))
    assert metric.compute().item() == pytest.approx(40 / 60)  # neither a copy nor its original is distinct
    few = Distinct()
    few.update(to_pil(DIGITS[:1].float() / 127.5 - 1))
    assert math.isnan(few.compute())


def alarms(pixels: Tensor, coloured: bool = False) -> set[str]:
    """Return the alarms of pictures where the digits are the reference."""
    reference, spoiled = (SampleSet(to_pil(each.float() / 127.5 - 1)) for each in (_in(DIGITS, coloured), pixels))

    def metrics() -> dict[str, object]:
        return dict(appearance_metrics(coloured))

    found = [statistics(each, reference, metrics) for each in (spoiled, reference)]  # type: ignore[arg-type]
    return {each.statistic for each in check_tolerances(Alarms(), 0, *found) if each.alarm}


def _in(pixels: Tensor, coloured: bool) -> Tensor:
    """Return grey pixels as they are, or in a pale red."""
    return torch.cat([pixels, pixels // 2, pixels // 2], 1) if coloured else pixels


def test_spoiled_pictures_raise_alarms() -> None:
    n = len(DIGITS)
    other = torch.from_numpy(digits.read_digits().pixels[200 : 200 + n]).movedim(-1, 1).contiguous()
    assert alarms(other) == set()
    noise = torch.randint(0, 256, DIGITS.shape, generator=G, dtype=torch.uint8)
    assert alarms(noise) >= {"colour_entropy", "edge_density"} and "distinct" not in alarms(noise)
    assert alarms(torch.full_like(DIGITS, 255)) == {"colour_entropy", "edge_density", "distinct"}
    assert alarms(DIGITS[:20].repeat(10, 1, 1, 1)) == {"distinct"}
    assert alarms(_in(other, True), coloured=True) == set()
    assert alarms(torch.cat([other, other, other], 1), coloured=True) == {"saturation"}
