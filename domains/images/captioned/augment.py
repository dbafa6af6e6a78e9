"""Flaws of sampled pictures, added to real ones when a network is trained that scores samples."""

import torch
from torch import Generator, Tensor, nn


def flawed(pixels: Tensor, generator: Generator, noise: float = 0.2) -> Tensor:
    """Return pictures with noise, and half of them blurred.

    Args:
        pixels: (n, 3, H, W) pixels in [-1, 1].
        generator: Generator of the flaws.
        noise: Largest standard deviation of the noise.
    """
    n, _, height, width = pixels.shape
    small = nn.functional.interpolate(pixels, (height // 2, width // 2), mode="bilinear", antialias=True)
    soft = nn.functional.interpolate(small, (height, width), mode="bilinear")
    share = torch.rand(n, 1, 1, 1, generator=generator) * (torch.rand(n, 1, 1, 1, generator=generator) < 0.5)
    spread = noise * torch.rand(n, 1, 1, 1, generator=generator)
    return pixels.lerp(soft, share) + spread * torch.randn(pixels.shape, generator=generator)
