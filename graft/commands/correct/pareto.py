"""Distance to the data against cost: the flow with several solvers, the corrected flow, and two cheap baselines."""

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from graft.commands.correct import flops
from graft.commands.correct.data import InvertedNoiseData
from graft.commands.correct.inverter import to_device
from graft.core import seeding
from graft.core.state import Condition, State, flatten_state
from graft.module import GraftModule
from graft.network.corrector import GaussianCorrector, gaussian_fields
from graft.process import Process
from graft.sampler import Stage, run_stages
from graft.solvers import Euler, Heun, Midpoint, Solver

FLOW, CORRECTED, GAUSSIAN, LONGER = "flow", "corrected", "Gaussian", "trained longer"


@dataclass
class Row:
    """One way to sample.

    Attributes:
        name: `FLOW`, `CORRECTED`, `GAUSSIAN` or `LONGER`.
        solver: Name of the flow's solver.
        steps: Number of sampler steps of the flow.
        warp: Exponent of the flow's clock, t = u^warp.
        flops: Floating-point operations of one sample, over all networks.
        distances: Distances by name, one for each set of samples.
    """

    name: str
    solver: str
    steps: int
    warp: float
    flops: float
    distances: dict[str, list[float]] = field(default_factory=dict)

    def mean(self, name: str) -> "float | None":
        """Return the mean of the distances of a name; None if a distance is not finite."""
        return _none_if_not_finite(sum(self.distances[name]) / len(self.distances[name]))

    def error(self, name: str) -> "float | None":
        """Return the standard error of the mean; None for one set, or if a distance is not finite."""
        x = torch.tensor(self.distances[name], dtype=torch.float64)
        return _none_if_not_finite(float(x.std()) / math.sqrt(len(x))) if len(x) > 1 else None


@dataclass
class Frontier:
    """All ways to sample, with their distances and costs.

    Attributes:
        rows: Ways to sample.
        floor: Distances between two halves of the held-out data by name, one for each set.
        n: Number of samples on either side of a distance.
    """

    rows: list[Row]
    floor: dict[str, list[float]]
    n: int

    @property
    def distance(self) -> str:
        """Name of the distance that the report compares by: the first one."""
        return next(iter(self.floor))


def with_warp(process: Process, warp: float) -> Process:
    """Return a copy of the process with another warp of its clock.

    The flow and its network stay the same.
    """
    warped = copy.deepcopy(process)
    for part in gaussian_fields(warped).values():
        part.warp = warp
    return warped


def solvers(module: GraftModule) -> list[Solver]:
    """Return the solvers to compare, the module's own solver first."""
    every: list[Solver] = [Euler(), Heun(), Midpoint()]
    return [module.policy.solver, *(s for s in every if type(s) is not type(module.policy.solver))]


def measure_frontier(
    module: GraftModule, data: InvertedNoiseData, cost: Mapping[str, float], longer: "nn.Module | None"
) -> Frontier:
    """Return the distance and the cost of all ways to sample, which share their noise.

    The strategy of the trainer must be set up.

    Args:
        module: The model with a trained corrector.
        data: The data of the run.
        cost: Operations of one call for one sample, of the flow (``call``) and of the corrector (``corrector_call``).
        longer: The flow after more training; None for no such baseline.
    """
    assert data.trainer is not None and module.policy.corrector is not None
    device = data.trainer.strategy.root_device
    real = _features(module, *data.held_out)
    n = min(len(real) // 2, data.test_draws)
    halves = [
        torch.randperm(len(real), generator=seeding.make_generator(data.seed, "halves", r))
        for r in range(data.num_repeats)
    ]
    measures = module.distances()
    floor = {
        name: [measure(real[order[:n]], real[order[n : 2 * n]]) for order in halves]
        for name, measure in measures.items()
    }

    condition = to_device(data.trainer, module.sample_conditions(8, seeding.make_generator(data.seed, "flops")))
    gaussian = GaussianCorrector()
    gaussian.check_compatible(module.policy.process)
    gaussian.fit([data.examples()])
    fitted = Stage(gaussian.process, gaussian.backbone.to(device), steps=gaussian.steps)
    gaussian_call = flops.count_call(
        gaussian.process, gaussian.backbone, module.policy.process.prior(condition), condition
    )

    ways: list[tuple[Row, list[Stage]]] = []

    own = next(iter(gaussian_fields(module.policy.process).values())).warp

    def way(
        name: str,
        solver: Solver,
        steps: int,
        before: "list[tuple[Stage, float]]",
        model: Any = None,
        warp: float = own,
    ) -> None:
        last = Stage(with_warp(module.policy.process, warp), model or module.policy.reference_forward, solver=solver)
        total = flops.count_sampling([*before, (last, cost["call"])], steps)
        ways.append((Row(name, type(solver).__name__, steps, warp, total), [*(s for s, _ in before), last]))

    for warp in sorted({own, *data.baseline_warps}):
        for solver in solvers(module):
            for steps in sorted(
                {*data.baseline_steps, *([module.policy.steps] if solver is module.policy.solver else [])}
            ):
                way(FLOW, solver, steps, [], warp=warp)
    way(CORRECTED, module.policy.solver, module.policy.steps, [(module.policy.tuned_stage, cost["corrector_call"])])
    way(GAUSSIAN, module.policy.solver, module.policy.steps, [(fitted, gaussian_call)])
    if longer is not None:
        network = longer.to(device)
        for steps in sorted({module.policy.steps, *data.baseline_steps}):
            way(LONGER, module.policy.solver, steps, [], lambda x, t, c: network(x, t, c))
    with module.policy.eval_weights("tuned"):
        for row, stages in ways:
            for r, order in enumerate(halves):
                features = _sample_features(module, data, stages, row.steps, n, r)
                for name, measure in measures.items():
                    row.distances.setdefault(name, []).append(measure(real[order[:n]], features))
    return Frontier([row for row, _ in ways], floor, n)


def _sample_features(
    module: GraftModule, data: InvertedNoiseData, stages: list[Stage], steps: int, count: int, repeat: int
) -> Tensor:
    """Return (count, d) features of samples.

    The noise of a repeat is the same for all ways to sample.
    """
    assert data.trainer is not None
    parts = []
    for i, start in enumerate(range(0, count, data.batch_size)):
        some = min(data.batch_size, count - start)
        given = module.sample_conditions(some, seeding.make_generator(data.seed, "condition", "frontier", repeat, i))
        condition = to_device(data.trainer, given)
        generator = seeding.make_generator(data.seed, "frontier", repeat, i)
        parts.append(_features(module, run_stages(stages, condition, steps, generator=generator).state, condition))
    return torch.cat(parts)


def _features(module: GraftModule, state: State, condition: Condition) -> Tensor:
    """Return (B, d) features, or flattened states if the domain has no features."""
    if not module.supports("features"):
        return flatten_state(state).double().cpu()
    return module.features(module.decode(state, condition)).double().cpu()


def summarize_frontier(found: Frontier) -> dict[str, Any]:
    """Return the comparison of the corrected flow with the other ways to sample, by name.

    Distances and costs are interpolated in their logarithms.

    ``flops_at_equal_distance``: Cost of the corrected flow over the cost of the flow alone at the same distance, with
    the same solver at its best warp; None if the flow alone does not come as near with any number of steps tried.
    ``flops_at_equal_distance_same_warp``: The same ratio with the warp of the corrected flow.
    ``best_solver_at_equal_flops``: Least distance of the flow alone at the cost of the corrected flow, over solvers and
    warps.
    """
    name = found.distance
    ours = next(row for row in found.rows if row.name == CORRECTED)
    distance = _log(ours.mean(name))
    alone: dict[tuple[str, float], list[Row]] = {}
    for row in found.rows:
        if row.name == FLOW:
            alone.setdefault((row.solver, row.warp), []).append(row)
    equal = dict[float, float]()
    for (solver, warp), rows in alone.items():
        cost = None if distance is None else _interpolated(_falling(_points(rows, name)), distance)
        if cost is not None and solver == ours.solver:
            equal[warp] = ours.flops / math.exp(cost)
    each = {key: _distance_at(rows, name, ours.flops) for key, rows in alone.items()}
    at = {key: value for key, value in each.items() if value is not None}
    same = [value for key, value in at.items() if key[0] == ours.solver]
    best = min(at, key=lambda key: at[key]) if at else None
    longer = [row for row in found.rows if row.name == LONGER]
    gaussian = next(row for row in found.rows if row.name == GAUSSIAN)
    return {
        "distance": ours.mean(name),
        "flops": ours.flops,
        "flops_at_equal_distance": max(equal.values()) if equal else None,
        "flops_at_equal_distance_same_warp": equal.get(ours.warp),
        "same_solver_at_equal_flops": min(same) if same else None,
        "best_solver_at_equal_flops": None
        if best is None
        else {"solver": best[0], "warp": best[1], "distance": at[best]},
        "gaussian": gaussian.mean(name),
        "trained_longer_at_equal_flops": _distance_at(longer, name, ours.flops),
    }


def _none_if_not_finite(value: float) -> "float | None":
    return value if math.isfinite(value) else None


def _points(rows: Sequence[Row], name: str) -> list[tuple[float, float]]:
    """Return (log distance, log cost) of the rows with a distance above 0.

    An unbiased distance may be below 0.
    """
    found = [(_log(row.mean(name)), math.log(row.flops)) for row in rows]
    return [(distance, cost) for distance, cost in found if distance is not None]


def _distance_at(rows: Sequence[Row], name: str, cost: float) -> "float | None":
    """Return the distance at a cost, interpolated between rows; None outside."""
    value = _interpolated([(y, x) for x, y in _points(rows, name)], math.log(cost))
    return None if value is None else math.exp(value)


def _log(value: "float | None") -> "float | None":
    return math.log(value) if value is not None and value > 0 else None


def _falling(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the Pareto frontier of points (distance, cost), by cost.

    A point of the frontier that costs more is nearer.
    """
    out: list[tuple[float, float]] = []
    for distance, cost in sorted(points, key=lambda point: point[1]):
        if not out or distance < out[-1][0]:
            out.append((distance, cost))
    return out


def _interpolated(points: Sequence[tuple[float, float]], at: float) -> "float | None":
    """Return y at x = ``at``, interpolated between points (x, y); None outside."""
    points = sorted(points)
    for (a, y), (b, z) in itertools.pairwise(points):
        if a <= at <= b:
            return y if a == b else y + (z - y) * (at - a) / (b - a)
    return None
