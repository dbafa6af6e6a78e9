"""Distances between two sets of features, how much of one the other covers, and how diverse a set is.

A distance of finite samples is not 0 where the laws are one: its floor, two halves of real samples at the same number,
belongs beside it (`beside`). torchmetrics has the Fréchet distance and the kernel distance of images; those here take
features of anything, sets of unequal size, and fewer samples than dimensions, and agree with its where both apply.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from graft.errors import GraftError

BLOCK = 1000  # samples whose distances to all others are in memory at once


@dataclass
class DistanceWithFloor:
    """A distance and its floor, both from sets of n: ``value`` tuned to real, ``floor`` real to real."""

    value: float
    floor: float
    n: int


def with_floor(
    distance: Callable[[Tensor, Tensor], float], real: Tensor, tuned: Tensor, generator: "Generator | None" = None
) -> DistanceWithFloor:
    """A distance beside its floor: one half of the real samples, at random, to the other and to as many tuned ones.

    Args:
        distance: Of (n, d) and (n, d).
        real: (N, d).
        tuned: (M, d); the first n are taken.
        generator: Of the halves.
    """
    n = min(len(real) // 2, len(tuned))
    order = torch.randperm(len(real), generator=generator)
    half, other = real[order[:n]], real[order[n : 2 * n]]
    return DistanceWithFloor(distance(half, tuned[:n]), distance(half, other), n)


def frechet(a: Tensor, b: Tensor, weight: "Tensor | None" = None) -> float:
    """Fréchet distance of the Gaussians fitted to (n, d) and (m, d): |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½).

    With centred samples A of Σ_a = AᵀA the last trace is the sum of the singular values of A Bᵀ, which needs no root of
    a matrix, so that it holds where there are fewer samples than dimensions. In the features' unit squared (the FID of
    Heusel et al. 2017 for Inception features). Its bias falls as 1/n: compare at equal n, beside the floor.

    Args:
        a: (n, d).
        b: (m, d).
        weight: (n,) of the samples of either set, where n = m; equal weights if not given.
    """
    a, b = _checked(a, b, 2)
    weights = [_weights(x, weight) for x in (a, b)]
    means = [w @ x for x, w in zip((a, b), weights, strict=True)]
    mean = (means[0] - means[1]).square().sum()
    roots = [
        torch.linalg.qr((x - centre) * (w / (1 - w.square().sum())).sqrt()[:, None]).R
        for x, centre, w in zip((a, b), means, weights, strict=True)
    ]
    traces = sum(root.square().sum() for root in roots)
    return max(0.0, float(mean + traces - 2 * torch.linalg.svdvals(roots[0] @ roots[1].T).sum()))


def polynomial_kernel(a: Tensor, b: Tensor) -> Tensor:
    """(n, m) the kernel of KID (Bińkowski et al. 2018): (a·b / d + 1)³."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def mmd(a: Tensor, b: Tensor, kernel: Callable[[Tensor, Tensor], Tensor] = polynomial_kernel) -> float:
    """Squared maximum mean discrepancy of (n, d) and (m, d), unbiased.

    0 on average where the laws are one, and so sometimes below it. The samples of a and b are independent; for pairs
    drawn with the same noise see `paired_mmd`.
    """
    a, b = _checked(a, b, 2)
    return float(_off_diagonal(kernel(a, a)) + _off_diagonal(kernel(b, b)) - 2 * kernel(a, b).mean())


def paired_mmd(
    a: Tensor,
    b: Tensor,
    kernel: Callable[[Tensor, Tensor], Tensor] = polynomial_kernel,
    weight: "Tensor | None" = None,
) -> float:
    """The same for n pairs (a_i, b_i) whose members depend on each other: of the same noise, or of the same condition.

    A pair's own k(a_i, b_i) is left out, which has another mean than that of independent samples.

    Args:
        a: (n, d).
        b: (n, d).
        kernel: Of (n, d) and (m, d); gives (n, m).
        weight: (n,) of each pair; equal weights if not given.
    """
    a, b = _checked(a, b, 2)
    if len(a) != len(b):
        raise GraftError(f"pairs are needed, and there are {len(a)} and {len(b)} samples")
    return float(_off_diagonal(kernel(a, a) + kernel(b, b) - kernel(a, b) - kernel(b, a), weight))


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 128) -> float:
    """Sliced 2-Wasserstein distance of (n, d) and (m, d): root mean square over directions of the distances along them.

    Bonneel et al. 2015, with the same random directions in every call; in the features' unit. Its bias falls as n^-1/2:
    compare at equal n, beside the floor.
    """
    a, b = _checked(a, b, 2)
    along = torch.randn(a.shape[1], directions, dtype=a.dtype, generator=torch.Generator().manual_seed(0))
    along = along / along.norm(dim=0)
    share = (torch.arange(max(len(a), len(b)), dtype=a.dtype) + 0.5) / max(len(a), len(b))

    ours, theirs = ((x @ along).sort(0).values[(share * len(x)).long()] for x in (a, b))
    return float((ours - theirs).square().mean().sqrt())


def coverage(real: Tensor, tuned: Tensor, k: int = 5, weight: "Tensor | None" = None) -> float:
    """The share of the real samples (n, d) that have a tuned one (m, d) within their k-nearest-neighbour radius.

    Naeem et al. 2020. Of one continuous law it is 1 − Π_{i=1..k} (n − i) / (n + m − i) on average, 0.97 for k = 5 and
    large equal n.

    Args:
        real: (n, d).
        tuned: (m, d).
        k: Which neighbour's distance is the radius.
        weight: (n,) of the real samples; equal weights if not given.
    """
    real, tuned = _checked(real, tuned, k + 1)
    # a sample is its own nearest: the k-th of the others is the (k + 1)-th of all
    inside = [
        _distances(some, tuned).amin(1) <= _distances(some, real).topk(k + 1, largest=False).values[:, -1]
        for some in torch.split(real, BLOCK)
    ]
    return float(torch.cat(inside).double() @ _weights(real, weight))


def internal_diversity(a: Tensor, weight: "Tensor | None" = None) -> float:
    """The mean distance of two different samples of (n, d), in the features' unit; ``weight`` (n,) of each sample."""
    a, _ = _checked(a, a, 2)
    return float(_off_diagonal(_distances(a, a), weight))


def _off_diagonal(pairs: Tensor, weight: "Tensor | None" = None) -> Tensor:
    """The mean of (n, n) over two different samples."""
    w = _weights(pairs, weight)
    return (w @ pairs @ w - w.square() @ pairs.diagonal()) / (1 - w.square().sum())


def _weights(samples: Tensor, weight: "Tensor | None") -> Tensor:
    """(n,) float64 of sum 1."""
    weight = torch.ones(len(samples)) if weight is None else weight
    if len(weight) != len(samples):
        raise GraftError(f"{len(samples)} samples have {len(weight)} weights: one is needed for each")
    weight = weight.to(samples.device, torch.float64)
    return weight / weight.sum()


def _distances(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")  # equal samples are at 0 exactly


def _checked(a: Tensor, b: Tensor, least: int) -> tuple[Tensor, Tensor]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise GraftError(f"features of {tuple(a.shape)} and {tuple(b.shape)} cannot be compared: (n, d) and (m, d)")
    if len(a) < least or len(b) < 1 or (least == 2 and len(b) < 2):
        raise GraftError(f"{len(a)} and {len(b)} samples are too few to compare: {least} are needed")
    unusable = sum(int((~x.isfinite().all(1)).sum()) for x in (a, b))
    if unusable:
        raise GraftError(
            f"the features of {unusable} of {len(a) + len(b)} samples are not finite: no distance has them"
        )
    return a.double(), b.double()
