"""A `GraftModule` whose network is affine in the state, with parameters of its own at every level of its sampler."""

from typing import Any

import torch
from exact import Exact, f64, level_of, rows
from torch import Generator, Tensor, nn

from graft import GraftModule, Objective
from graft.process import Gaussian


class Table(nn.Module):
    """The module of `exact.Affine`: (steps + 1, d, d + 1), a matrix and an offset for each level."""

    def __init__(self, process: Gaussian, steps: int, table: Tensor) -> None:
        super().__init__()
        self.process, self.steps = process, steps
        self.table = nn.Parameter(table.clone())

    def forward(self, state: Tensor, time: Tensor, condition: dict[str, Tensor]) -> Tensor:
        w = self.table[(level_of(self.process, time) * self.steps).round().long()]
        return (w[..., :-1] @ state[..., None])[..., 0] + w[..., -1]


def table_of(process: Gaussian, steps: int, model: Exact) -> Tensor:
    """The table of a network that is affine at every level; at level 0, where it is not called, zeros."""
    d = process.shape[0]
    x = torch.cat([torch.zeros(1, d), torch.eye(d)]).double()
    out = [torch.zeros(d, d + 1, dtype=torch.float64)]
    for index in range(1, steps + 1):
        y = process(model, x, index / steps, rows(len(x)))
        out.append(torch.cat([(y[1:] - y[0]).mT, y[0][:, None]], 1))
    return torch.stack(out)


class Line(GraftModule):
    """Objects are tuples of floats."""

    def sample_conditions(self, count: int, generator: Generator) -> dict[str, Tensor]:
        return rows(count)

    def decode(self, state: Any, condition: dict[str, Tensor]) -> list[Any]:
        return [tuple(x) for x in state.tolist()]


def line(process: Gaussian, steps: int, table: Tensor, objective: "Objective | None" = None, **settings: Any) -> Line:
    """The module; its reference is its network as it is now."""
    module = Line(Table(process, steps, table), process, steps=steps, objective=objective, **settings)
    module.policy.reference = Table(process, steps, table).requires_grad_(False)
    module.policy.reference_file = {"path": "none", "sha256": "none"}
    return module


__all__ = ["Line", "Table", "f64", "line", "table_of"]
