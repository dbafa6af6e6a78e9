"""Random numbers that can be replayed: every draw has a generator of its own, seeded from what it is for."""

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

SMALLEST = 1e-12
"""Least share of the way from the lowest level to the highest at which training asks a network."""


def make_generator(seed: int, *purpose: "int | str") -> Generator:
    """A CPU generator seeded from ``seed`` and what it is for, such as ``("rollout", round, chunk)``.

    The same arguments give the same numbers on every machine and on any number of processes; different ones give
    independent streams (the seed is 63 bits of a SHA-256).
    """
    return torch.Generator().manual_seed(derive_seed(seed, *purpose))


def derive_seed(seed: int, *purpose: "int | str") -> int:
    """The seed of such a generator: 63 bits."""
    digest = hashlib.sha256(repr((int(seed), *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_default(seed: int, device: torch.device) -> None:
    """Seed torch's own generators of the CPU and of one device, from which networks draw dropout.

    They then draw the same numbers as after `torch.manual_seed`, which also prepares every kind of device
    that is not in use and records a stack trace for each: more than a millisecond.

    Args:
        seed: From 0 to 2⁶³ − 1.
        device: Device that the network runs on.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        getattr(torch, device.type).manual_seed(seed)


class ShardedGenerator(Generator):
    """A generator of a whole step's numbers, of which this process gets the rows of its part.

    Attributes:
        rank: Of this process: of its part it has every ``world``-th row from there.
        world: Number of processes.
        part: Which of the parts, one after the other, that a step is accumulated from.
        parts: Their number.
    """

    rank: int
    world: int
    part: int
    parts: int


def shard_generator(generator: Generator, rank: int, world: int, part: int = 0, parts: int = 1) -> Generator:
    """The generator for the rows of one of ``world`` processes in one of ``parts``; it goes on from where it is."""
    if world == parts == 1:
        return generator
    out = ShardedGenerator()
    out.set_state(generator.get_state())
    out.rank, out.world, out.part, out.parts = rank, world, part, parts
    return out


def normal(shape: Sequence[int], like: Tensor, generator: "Generator | None") -> Tensor:
    """Standard normal numbers of ``like``'s dtype and device, drawn on the generator's own device."""
    device = generator.device if generator is not None else like.device

    def draw(count: int) -> Tensor:
        return torch.randn((count, *shape[1:]), generator=generator, dtype=like.dtype, device=device)

    return _rows(shape[0], draw, generator).to(like.device)


def uniform(shape: "int | Sequence[int]", generator: "Generator | None", dtype: torch.dtype = torch.float64) -> Tensor:
    """Uniform numbers in [0, 1) on the generator's own device."""
    device = generator.device if generator is not None else "cpu"
    first, *more = (shape,) if isinstance(shape, int) else shape
    return _rows(
        first, lambda count: torch.rand((count, *more), generator=generator, dtype=dtype, device=device), generator
    )


def stratified_levels(count: int, lowest: float, generator: "Generator | None", highest: float = 1.0) -> Tensor:
    """(count,) levels in (lowest, highest], one in each of as many equal parts, in random order, as training asks.

    ``lowest`` itself is left out: the kernel from a level to itself has no noise.
    """

    def draw(total: int) -> Tensor:
        order = torch.randperm(total, generator=generator)
        return (order + torch.rand(total, generator=generator, dtype=torch.float64)) / total

    return highest - (highest - lowest) * _rows(count, draw, generator)


def logit_normal(level: Tensor, lowest: float, mean: float, spread: float, highest: float = 1.0) -> Tensor:
    r"""Levels that lie evenly in (lowest, highest] moved to where the logit of their share of the way is normal.

    .. math:: u = \ell + (h - \ell)\, \mathrm{sigmoid}\big(\mu + s\, \Phi^{-1}((u' - \ell) / (h - \ell))\big)
    """
    normal: Tensor = torch.special.ndtri((level - lowest) / (highest - lowest))
    share = (mean + spread * normal).sigmoid().clamp(min=SMALLEST)  # large spreads would round to ``lowest`` itself
    return lowest + (highest - lowest) * share


def _rows(count: int, draw: "Callable[[int], Tensor]", generator: "Generator | None") -> Tensor:
    """``count`` rows; of a generator that is shared, those of this process and part out of everyone's."""
    if not isinstance(generator, ShardedGenerator):
        return draw(count)
    size = count * generator.world
    whole = draw(size * generator.parts)
    return whole[generator.part * size : (generator.part + 1) * size][generator.rank :: generator.world]
