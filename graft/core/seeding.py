"""Reproducible random numbers: every draw has its own generator, seeded from its purpose."""

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from graft.core.interval import Interval

SMALLEST = 1e-12
"""Least share of the way from the lowest level to the highest at which a network is trained."""


def make_generator(seed: int, *purpose: "int | str") -> Generator:
    """Return a CPU generator seeded from ``seed`` and its purpose.

    A purpose is a sequence such as "rollout", round, chunk.

    The same arguments give the same numbers on every machine and on any number of ranks. Different arguments give
    independent streams (the seed is 63 bits of a SHA-256).
    """
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


def derive_seed(seed: int, *purpose: "int | str") -> int:
    """Return the 63-bit seed of `make_generator` with the same arguments."""
    digest = hashlib.sha256(repr((int(seed), *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_default(seed: int, device: torch.device) -> None:
    """Seed torch's own generators of the CPU and of one device, which networks use for dropout.

    The numbers are the same as after `torch.manual_seed`. That function also prepares every kind of device that is not
    in use and records a stack trace for each, which is slow.

    Args:
        seed: Seed from 0 to 2⁶³ − 1.
        device: Device of the network.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)


class ShardedGenerator(Generator):
    """A generator of a whole step's numbers, from which this rank gets its rows of one part.

    Attributes:
        rank: Number of this rank, which gets every ``world``-th row of a part from row ``rank`` on.
        world: Number of ranks.
        part: Index of the part, of those from which a step is accumulated.
        parts: Number of parts.
    """

    rank: int
    world: int
    part: int
    parts: int


def seed_step(
    seed: int, step: int, rank: int, world_size: int, part: int, parts: int, device: torch.device
) -> Generator:
    """Return the generator of a part of a training step, and seed torch's own generator for it.

    A step that is repeated has the same random numbers, those that networks draw themselves (dropout) included.

    Args:
        seed: Seed of the module.
        step: Number of the optimizer step.
        rank: This rank.
        world_size: Number of ranks.
        part: Number of the part of the step.
        parts: Number of parts that a step is accumulated from.
        device: Device of the networks.
    """
    generator = shard_generator(make_generator(seed, "train", step, 0), rank, world_size, part, parts)
    seed_default(derive_seed(seed, "dropout", step, part, rank), device)
    return generator


def shard_generator(generator: Generator, rank: int, world: int, part: int = 0, parts: int = 1) -> Generator:
    """Return a generator in the same state for the rows of one of ``world`` ranks in one part."""
    if world == parts == 1:
        return generator
    out = ShardedGenerator()
    out.set_state(generator.get_state())
    out.rank, out.world, out.part, out.parts = rank, world, part, parts
    return out


def normal(shape: Sequence[int], like: Tensor, generator: "Generator | None") -> Tensor:
    """Return standard normal numbers of ``like``'s dtype and device, drawn on the generator's."""
    device = generator.device if generator is not None else like.device

    def draw(count: int) -> Tensor:
        return torch.randn((count, *shape[1:]), generator=generator, dtype=like.dtype, device=device)

    return _rows(shape[0], draw, generator).to(like.device)


def uniform(shape: "int | Sequence[int]", generator: "Generator | None", dtype: torch.dtype = torch.float64) -> Tensor:
    """Return uniform numbers in [0, 1) on the generator's device."""
    device = generator.device if generator is not None else "cpu"
    first, *more = (shape,) if isinstance(shape, int) else shape
    return _rows(
        first, lambda count: torch.rand((count, *more), generator=generator, dtype=dtype, device=device), generator
    )


def stratified_levels(count: int, interval: Interval, generator: "Generator | None") -> Tensor:
    """Return (count,) levels in an interval, one in each equal part, in random order.

    The lower end is excluded, since the kernel from a level to itself has no noise.
    """

    def draw(total: int) -> Tensor:
        order = torch.randperm(total, generator=generator)
        return (order + torch.rand(total, generator=generator, dtype=torch.float64)) / total

    return interval.high - (interval.high - interval.low) * _rows(count, draw, generator)


def logit_normal(level: Tensor, interval: Interval, mean: float, spread: float) -> Tensor:
    r"""Return uniform levels in an interval without its lower end, moved to a normal logit of their share.

    .. math:: u = \ell + (h - \ell)\, \mathrm{sigmoid}\big(\mu + s\, \Phi^{-1}((u' - \ell) / (h - \ell))\big)
    """
    low, length = interval.low, interval.high - interval.low
    normal: Tensor = torch.special.ndtri((level - low) / length)
    share = (mean + spread * normal).sigmoid().clamp(min=SMALLEST)  # a large spread would round to the lower end itself
    return low + length * share


def _rows(count: int, draw: "Callable[[int], Tensor]", generator: "Generator | None") -> Tensor:
    """Return ``count`` rows; from a `ShardedGenerator`, the rows of this rank and part."""
    if not isinstance(generator, ShardedGenerator):
        return draw(count)
    size = count * generator.world
    whole = draw(size * generator.parts)
    return whole[generator.part * size : (generator.part + 1) * size][generator.rank :: generator.world]
