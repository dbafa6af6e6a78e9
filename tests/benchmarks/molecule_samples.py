"""Samples of a model of molecules, in batches."""

from typing import Any

from graft.core import seeding
from graft.core.datatypes import SampleRequest

BATCH = 250


def sample(module: Any, count: int, seed: int, weights: str = "reference", purpose: str = "benchmark") -> list[Any]:
    """Return ``count`` molecules.

    Args:
        module: Model of molecules.
        count: Number of molecules.
        seed: Seed of the noise and of the numbers of atoms.
        weights: ``reference`` or ``tuned``.
        purpose: Name of the stream of random numbers.
    """
    mols: list[Any] = []
    module.seed = seed
    for chunk in range(0, count, BATCH):
        generator = seeding.make_generator(seed, "condition", chunk)
        condition = module.sample_conditions(min(BATCH, count - chunk), generator)
        sampled = module.predict_step(SampleRequest(condition, (purpose, chunk), weights))
        mols += module.decode(sampled.state, condition)
    return mols
