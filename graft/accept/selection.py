"""The only random step: which draws are taken, given the probability of each."""

import torch
from torch import Generator, Tensor


def systematic_sample(probability: Tensor, generator: "Generator | None") -> Tensor:
    """Positions drawn so that each has its probability and their number is as good as fixed (Madow 1949)."""
    order = torch.randperm(len(probability), generator=generator)
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    # rounding units of the sum must not cost the last of a whole number
    reached = (probability[order].cumsum(0) + offset + 1e-9).floor()
    before = torch.cat([(offset + 1e-9).floor()[None], reached[:-1]])
    return order[reached > before]
