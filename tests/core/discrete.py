"""Discrete distributions that can be listed, and the network that is right about them."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.process import Categorical, MaskedCategorical

DISTRIBUTION = torch.tensor([0.05, 0.2, 0.02, 0.1, 0.01, 0.12, 0.3, 0.05, 0.15], dtype=torch.float64)
"""Of two positions of three classes that depend on each other."""


def listed(positions: int, classes: int, masks: bool = False) -> Tensor:
    """(S, positions, classes) all states, the mask a row of zeros and the last class."""
    rows = torch.eye(classes, dtype=torch.float64)
    rows = torch.cat([rows, torch.zeros(1, classes, dtype=torch.float64)]) if masks else rows
    return torch.stack([rows[list(kinds)] for kinds in itertools.product(range(len(rows)), repeat=positions)])


def states_of(process: Categorical) -> Tensor:
    """Return all states at any level."""
    return listed(*process.shape, masks=isinstance(process, MaskedCategorical))


def count(rows: int) -> dict[str, Tensor]:
    return {"weight": torch.ones(rows, dtype=torch.float64)}


def kernel(process: Categorical, level: float, from_level: float) -> Tensor:
    """(S, S) q(column at ``level`` | row at ``from_level``), by the definition and not by the process."""
    states = states_of(process)
    r = float((1 - level**process.warp) / (1 - from_level**process.warp)) if from_level < 1 else 1.0
    classes = process.shape[-1]
    there = states.sum(-1)
    same = (states[:, None] == states[None]).all(-1).double()
    if isinstance(process, MaskedCategorical):
        gone = (there[None] == 0).double()
        each = torch.where(there[:, None] == 0, gone, r * same + (1 - r) * gone)
    else:
        each = r * same + (1 - r) / classes
    return each.prod(-1)


def noised(process: Categorical, distribution: Tensor, level: float, from_level: float = 0.0) -> Tensor:
    """Return (S,), ``distribution`` at ``from_level`` noised to ``level``; a distribution of data lists no masks."""
    return whole(process, distribution) @ kernel(process, level, from_level)


def whole(process: Categorical, distribution: Tensor) -> Tensor:
    """(S,) a distribution of data over all states."""
    states = states_of(process)
    if len(distribution) == len(states):
        return distribution
    out = torch.zeros(len(states), dtype=torch.float64)
    out[states.sum(-1).bool().all(-1)] = distribution
    return out


def index_of(process: Categorical, states: Tensor) -> Tensor:
    """(B,) places in the list."""
    found = (states[:, None].double() == states_of(process)[None]).flatten(2).all(-1)
    assert bool((found.sum(1) == 1).all())
    return found.double().argmax(1)


@dataclass
class Table:
    """The exact posterior mean of ``distribution`` at x_0, as logits: what the loss is least at."""

    process: Categorical
    distribution: Tensor

    def __call__(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        level = float(time[0].double() ** (1 / self.process.warp))
        level = round(level * 3600) / 3600
        joint = whole(self.process, self.distribution)[:, None] * kernel(self.process, level, 0.0)  # (x_0, x_u)
        mean = torch.einsum("su,snk->unk", joint, states_of(self.process)) / joint.sum(0)[:, None, None]
        mean = mean.nan_to_num(1.0)  # a state that there is not at this level
        return mean.clamp(min=1e-300).log()[index_of(self.process, state)].to(state)


def steps(
    process: Categorical, model: object, distribution: Tensor, count_of: int, start: float, stop: float
) -> Tensor:
    """(S,) the distribution after sampling, exactly: every step as the matrix of its transition probabilities."""
    states = states_of(process)
    condition = count(len(states))
    for i in range(round(start * count_of), round(stop * count_of), -1):
        u, v = i / count_of, (i - 1) / count_of
        output = process(model, states, u, condition)
        rows, to = (
            torch.arange(len(states)).repeat_interleave(len(states)),
            torch.arange(len(states)).repeat(len(states)),
        )
        chance = process.log_prob(output[rows], states[rows], states[to], u, v, count(len(rows))).exp()
        distribution = distribution @ chance.reshape(len(states), len(states))
    return distribution
