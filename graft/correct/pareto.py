"""Distance to the data against cost: the flow with its solvers, the corrected flow, and their cheap rivals."""

import copy
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from graft import flops, seeding
from graft.correct.data import InvertedNoiseData
from graft.corrector import GaussianCorrector, gaussian_fields
from graft.inversion.base import flatten_state
from graft.module import GraftModule
from graft.process import Process
from graft.sampler import Stage, run_stages
from graft.solvers import Euler, Heun, Midpoint, Solver
from graft.state import Condition, State

FLOW, CORRECTED, GAUSSIAN, LONGER = "flow", "corrected", "Gaussian", "trained longer"


@dataclass
class Row:
    """One way to draw.

    Attributes:
        name: `FLOW`, `CORRECTED`, `GAUSSIAN` or `LONGER`.
        solver: Of the flow's steps.
        steps: Of the flow.
        warp: Of its clock, t = u^warp.
        flops: Of one sample, all networks counted.
        distances: By name, one for each set of draws.
    """

    name: str
    solver: str
    steps: int
    warp: float
    flops: float
    distances: dict[str, list[float]] = field(default_factory=dict)

    def mean(self, name: str) -> "float | None":
        """Mean of the distances; None where one is not finite."""
        return finite(sum(self.distances[name]) / len(self.distances[name]))

    def error(self, name: str) -> "float | None":
        """Standard error of the mean; None of one set, or where a distance is not finite."""
        x = torch.tensor(self.distances[name], dtype=torch.float64)
        return finite(float(x.std()) / math.sqrt(len(x))) if len(x) > 1 else None


@dataclass
class Frontier:
    """All of them.

    Attributes:
        rows: Ways to draw.
        floor: By distance: of one half of the held-out data to the other, for each set.
        n: Samples on either side of a distance.
        call: Operations of a call of the flow's network for one sample.
        corrector_call: Of the corrector's.
    """

    rows: list[Row]
    floor: dict[str, list[float]]
    n: int
    call: float
    corrector_call: float

    @property
    def distance(self) -> str:
        """The one that is judged by."""
        return next(iter(self.floor))


def with_warp(process: Process, warp: float) -> Process:
    """The process with steps that are spread otherwise: the flow is the same, and its network."""
    spread = copy.deepcopy(process)
    for part in gaussian_fields(spread).values():
        part.warp = warp
    return spread


def solvers(module: GraftModule) -> list[Solver]:
    """Those at hand, the module's own first."""
    every: list[Solver] = [Euler(), Heun(), Midpoint()]
    return [module.solver, *(s for s in every if type(s) is not type(module.solver))]


def measure_frontier(module: GraftModule, data: InvertedNoiseData, longer: "nn.Module | None") -> Frontier:
    """Draw in all ways, with the same noise, and measure; within a trainer that has set up its strategy."""
    assert data.trainer is not None and module.corrector is not None
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

    condition = data.placed(module.sample_conditions(8, seeding.make_generator(data.seed, "flops")))
    noise = module.process.prior(condition)
    call = flops.call(module.process, module.reference_forward, noise, condition)
    shaped = module.trained_stage
    corrector_call = flops.call(shaped.process, shaped.model, noise, condition)
    gaussian = GaussianCorrector()
    gaussian.check_compatible(module.process)
    gaussian.fit([data.examples()])
    fitted = Stage(gaussian.process, gaussian.backbone.to(device), steps=gaussian.steps)
    gaussian_call = flops.call(gaussian.process, gaussian.backbone, noise, condition)

    ways: list[tuple[Row, list[Stage]]] = []

    own = next(iter(gaussian_fields(module.process).values())).warp

    def way(
        name: str,
        solver: Solver,
        steps: int,
        before: "list[tuple[Stage, float]]",
        model: Any = None,
        warp: float = own,
    ) -> None:
        last = Stage(with_warp(module.process, warp), model or module.reference_forward, solver=solver)
        cost = flops.sampling([*before, (last, call)], steps)
        ways.append((Row(name, type(solver).__name__, steps, warp, cost), [*(s for s, _ in before), last]))

    for warp in sorted({own, *data.baseline_warps}):
        for solver in solvers(module):
            for steps in sorted({*data.baseline_steps, *([module.steps] if solver is module.solver else [])}):
                way(FLOW, solver, steps, [], warp=warp)
    way(CORRECTED, module.solver, module.steps, [(shaped, corrector_call)])
    way(GAUSSIAN, module.solver, module.steps, [(fitted, gaussian_call)])
    if longer is not None:
        network = longer.to(device)
        for steps in sorted({module.steps, *data.baseline_steps}):
            way(LONGER, module.solver, steps, [], lambda x, t, c: network(x, t, c))
    with module.eval_weights("tuned"):
        for row, stages in ways:
            for r, order in enumerate(halves):
                drawn = _drawn(module, data, stages, row.steps, n, r)
                for name, measure in measures.items():
                    row.distances.setdefault(name, []).append(measure(real[order[:n]], drawn))
    return Frontier([row for row, _ in ways], floor, n, call, corrector_call)


def _drawn(
    module: GraftModule, data: InvertedNoiseData, stages: list[Stage], steps: int, count: int, repeat: int
) -> Tensor:
    """(count, d) features of draws; the noise of a repeat is the same for all ways."""
    parts = []
    for i, start in enumerate(range(0, count, data.batch_size)):
        some = min(data.batch_size, count - start)
        given = module.sample_conditions(some, seeding.make_generator(data.seed, "condition", "frontier", repeat, i))
        condition = data.placed(given)
        generator = seeding.make_generator(data.seed, "frontier", repeat, i)
        parts.append(_features(module, run_stages(stages, condition, steps, generator=generator).state, condition))
    return torch.cat(parts)


def _features(module: GraftModule, state: State, condition: Condition) -> Tensor:
    """(B, d) of what states stand for, or the states themselves where a domain has no features."""
    if not module.has_features:
        return flatten_state(state).double().cpu()
    return module.features(module.decode(state, condition)).double().cpu()


def summarize_frontier(found: Frontier) -> dict[str, Any]:
    """What the frontier says of the corrected flow.

    ``flops_at_equal_distance``: its cost over that of the flow alone, with the same solver at its best warp and at its
    distance, interpolated in the logarithms; None where no number of steps tried comes as near. ``…_same_warp``: with
    the flow's steps spread as the corrected flow's are.
    ``best_solver_at_equal_flops``: the least distance of the flow alone at the cost of the corrected one, over solvers
    and warps.
    """
    name = found.distance
    ours = next(row for row in found.rows if row.name == CORRECTED)
    distance = _log(ours.mean(name))
    alone: dict[tuple[str, float], list[Row]] = {}
    for row in found.rows:
        if row.name == FLOW:
            alone.setdefault((row.solver, row.warp), []).append(row)
    equal, at = dict[float, float](), dict[tuple[str, float], float]()
    for key, rows in alone.items():
        points = _points(rows, name)
        cost = None if distance is None else _interpolated(_falling(points), distance)
        if cost is not None and key[0] == ours.solver:
            equal[key[1]] = ours.flops / math.exp(cost)
        value = _interpolated([(y, x) for x, y in points], math.log(ours.flops))
        if value is not None:
            at[key] = math.exp(value)
    same = [value for key, value in at.items() if key[0] == ours.solver]
    best = min(at, key=lambda key: at[key]) if at else None
    longer = _points([row for row in found.rows if row.name == LONGER], name)
    trained = _interpolated([(y, x) for x, y in longer], math.log(ours.flops))
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
        "trained_longer_at_equal_flops": None if trained is None else math.exp(trained),
    }


def finite(value: float) -> "float | None":
    """Return the value as JSON has it: None where it is not finite."""
    return value if math.isfinite(value) else None


def _points(rows: Sequence[Row], name: str) -> list[tuple[float, float]]:
    """(log distance, log cost) of the rows with a distance above 0: some distances may be 0 or below it."""
    found = [(_log(row.mean(name)), math.log(row.flops)) for row in rows]
    return [(distance, cost) for distance, cost in found if distance is not None]


def _log(value: "float | None") -> "float | None":
    return math.log(value) if value is not None and value > 0 else None


def _falling(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """(distance, cost), where more cost is nearer: what is dearer and no nearer is left out."""
    out: list[tuple[float, float]] = []
    for distance, cost in sorted(points, key=lambda point: point[1]):
        if not out or distance < out[-1][0]:
            out.append((distance, cost))
    return out


def _interpolated(points: Sequence[tuple[float, float]], at: float) -> "float | None":
    """Y at x = ``at`` on straight lines between points (x, y); None outside of them."""
    points = sorted(points)
    for (a, y), (b, z) in itertools.pairwise(points):
        if a <= at <= b:
            return y if a == b else y + (z - y) * (at - a) / (b - a)
    return None
