"""The random step of a rule: the selection of draws, given the probability of each."""

import torch
from torch import Generator, Tensor


def systematic_sample(probability: Tensor, generator: "Generator | None") -> Tensor:
    """Return positions, each drawn with its probability, by systematic sampling (Madow 1949).

    Their number is fixed up to one.
    """
    order = torch.randperm(len(probability), generator=generator)
    offset = torch.rand((), generator=generator, dtype=torch.float64)
    # a rounding error of the sum must not cost the last draw of a whole number
    reached = (probability[order].cumsum(0) + offset + 1e-9).floor()
    before = torch.cat([(offset + 1e-9).floor()[None], reached[:-1]])
    return order[reached > before]
