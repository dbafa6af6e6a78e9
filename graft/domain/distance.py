"""Distances of two sets of features, coverage of one by another, and diversity of a set.

A distance of finite samples is not 0 where the distributions are equal. Its floor, the distance of two halves of the
real samples at the same number, must be shown next to it. torchmetrics has the Fréchet distance and the
kernel distance of images. The functions here take features of any object, sets of unequal size and fewer samples than
dimensions, and agree with torchmetrics where both apply.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from graft.errors import GraftError

BLOCK = 1000
"""Number of samples with all their distances in memory at once."""


def frechet(a: Tensor, b: Tensor, weight: "Tensor | None" = None) -> float:
    """Return the Fréchet distance of two sets, |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½).

    It is the distance of the Gaussians fitted to the sets, in the features' unit squared (the FID of Heusel et al. 2017
    for Inception features). With centred samples A of Σ_a = AᵀA the last trace is the sum of the singular values of
    A Bᵀ. That needs no root of a matrix, so it holds where there are fewer samples than dimensions, too. The bias falls
    as 1/n: compare at equal n, next to the floor.

    Args:
        a: Features, (n, d).
        b: Features, (m, d).
        weight: Weights of the samples of both sets, (n,), where n = m; equal weights if not given.
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
    """Return (n, m) the kernel of KID (Bińkowski et al. 2018), (a·b / d + 1)³."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def mmd(a: Tensor, b: Tensor, kernel: Callable[[Tensor, Tensor], Tensor] = polynomial_kernel) -> float:
    """Return the unbiased squared maximum mean discrepancy of (n, d) and (m, d).

    Its mean is 0 where the distributions are equal, so an estimate can be negative. The samples of a and b must be
    independent; `paired_mmd` is for pairs that share their noise.
    """
    a, b = _checked(a, b, 2)
    return float(_off_diagonal(kernel(a, a)) + _off_diagonal(kernel(b, b)) - 2 * kernel(a, b).mean())


def paired_mmd(
    a: Tensor,
    b: Tensor,
    kernel: Callable[[Tensor, Tensor], Tensor] = polynomial_kernel,
    weight: "Tensor | None" = None,
) -> float:
    """Return `mmd` of n dependent pairs (a_i, b_i), with the same noise or the same condition.

    A pair's own k(a_i, b_i) is excluded, since its mean is not that of independent samples.

    Args:
        a: Features, (n, d).
        b: Features, (n, d).
        kernel: Kernel of (n, d) and (m, d), which returns (n, m).
        weight: Weights of the pairs, (n,); equal weights if not given.

    Raises:
        GraftError: There are not as many samples in a as in b.
    """
    a, b = _checked(a, b, 2)
    if len(a) != len(b):
        raise GraftError(f"there are {len(a)} and {len(b)} samples; there must be as many of both. Compare pairs")
    return float(_off_diagonal(kernel(a, a) + kernel(b, b) - kernel(a, b) - kernel(b, a), weight))


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 128) -> float:
    """Return the sliced 2-Wasserstein distance of (n, d) and (m, d), in the features' unit.

    It is the root mean square over directions of the distances along them (Bonneel et al. 2015), with the same random
    directions in every call. The bias falls as n^-1/2: compare at equal n, next to the floor.
    """
    a, b = _checked(a, b, 2)
    along = torch.randn(a.shape[1], directions, dtype=a.dtype, generator=torch.Generator().manual_seed(0))
    along = along / along.norm(dim=0)
    share = (torch.arange(max(len(a), len(b)), dtype=a.dtype) + 0.5) / max(len(a), len(b))

    quantiles_a, quantiles_b = ((x @ along).sort(0).values[(share * len(x)).long()] for x in (a, b))
    return float((quantiles_a - quantiles_b).square().mean().sqrt())


def coverage(real: Tensor, tuned: Tensor, k: int = 5, weight: "Tensor | None" = None) -> float:
    """Return the share of real samples with a tuned one within their k-nearest-neighbour radius.

    The definition is that of Naeem et al. 2020. For two sets of one continuous distribution its mean is
    1 − Π_{i=1..k} (n − i) / (n + m − i), 0.97 for k = 5 and large equal n.

    Args:
        real: Features of real samples, (n, d).
        tuned: Features of tuned samples, (m, d).
        k: Number of the neighbour at the radius.
        weight: Weights of the real samples, (n,); equal weights if not given.
    """
    real, tuned = _checked(real, tuned, k + 1)
    # a sample is its own nearest neighbour, so the k-th of the others is the (k + 1)-th of all
    inside = [
        _distances(some, tuned).amin(1) <= _distances(some, real).topk(k + 1, largest=False).values[:, -1]
        for some in torch.split(real, BLOCK)
    ]
    return float(torch.cat(inside).double() @ _weights(real, weight))


def internal_diversity(a: Tensor, weight: "Tensor | None" = None) -> float:
    """Return the mean distance of two different samples of (n, d), weighted by ``weight`` (n,)."""
    a, _ = _checked(a, a, 2)
    return float(_off_diagonal(_distances(a, a), weight))


def _off_diagonal(pairs: Tensor, weight: "Tensor | None" = None) -> Tensor:
    """Return the weighted mean of (n, n) over pairs of different samples."""
    w = _weights(pairs, weight)
    return (w @ pairs @ w - w.square() @ pairs.diagonal()) / (1 - w.square().sum())


def _weights(samples: Tensor, weight: "Tensor | None") -> Tensor:
    """Return (n,) float64 weights of sum 1."""
    weight = torch.ones(len(samples)) if weight is None else weight
    if len(weight) != len(samples):
        raise GraftError(f"{len(samples)} samples have {len(weight)} weights; each must have one. Give (n,) weights")
    weight = weight.to(samples.device, torch.float64)
    return weight / weight.sum()


def _distances(a: Tensor, b: Tensor) -> Tensor:
    # without matrix products the distance of equal samples is exactly 0
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _checked(a: Tensor, b: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Return features (n, d) and (m, d) in float64; raise GraftError if they cannot be compared."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise GraftError(
            f"features of {tuple(a.shape)} and {tuple(b.shape)} cannot be compared; they must be (n, d) and (m, d)"
        )
    if len(a) < least or len(b) < 1 or (least == 2 and len(b) < 2):
        raise GraftError(
            f"{len(a)} and {len(b)} samples are too few to compare; there must be at least {least}. Draw more"
        )
    not_finite = sum(int((~x.isfinite().all(1)).sum()) for x in (a, b))
    if not_finite:
        raise GraftError(
            f"the features of {not_finite} of {len(a) + len(b)} samples are not finite, so they have no "
            "distance. Check `features`"
        )
    return a.double(), b.double()
