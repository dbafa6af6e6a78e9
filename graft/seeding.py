"""Random numbers that can be replayed: every draw has a generator of its own, seeded from what it is for."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def generator(seed: int, *purpose: "int | str") -> Generator:
    """A CPU generator seeded from ``seed`` and what it is for, such as ``("rollout", round, chunk)``.

    The same arguments give the same numbers on every machine and on any number of processes; different ones give
    independent streams (the seed is 63 bits of a SHA-256).
    """
    digest = hashlib.sha256(repr((int(seed), *purpose)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def normal(shape: Sequence[int], like: Tensor, generator: "Generator | None") -> Tensor:
    """Standard normal numbers of ``like``'s dtype and device, drawn on the generator's own device."""
    device = generator.device if generator is not None else like.device
    return torch.randn(tuple(shape), generator=generator, dtype=like.dtype, device=device).to(like.device)


def uniform(count: int, generator: "Generator | None") -> Tensor:
    """``count`` uniform numbers in [0, 1), float64."""
    device = generator.device if generator is not None else "cpu"
    return torch.rand(count, generator=generator, dtype=torch.float64, device=device)


def levels(count: int, lowest: float, generator: "Generator | None") -> Tensor:
    """(count,) levels in (lowest, 1], one in each of as many equal parts, in random order: what training asks for.

    ``lowest`` itself is left out: the kernel from a level to itself has no noise.
    """
    spread = (torch.randperm(count, generator=generator) + uniform(count, generator)) / count
    return 1 - (1 - lowest) * spread
